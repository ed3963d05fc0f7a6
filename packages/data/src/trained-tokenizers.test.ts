import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { byteLevelAlphabet, Tokenizer } from "tokenizers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { byteCharacters } from "./bpe.js";
import { sotuCorpus } from "./corpora/sotu.js";
import { gpt2PreTokens } from "./pre-tokenization.js";
import { prepareTokenizer } from "./prepare-tokenizer.js";
import type { TextTokenizer } from "./text-tokenizer.js";

const corpus = sotuCorpus({ from: 1990, to: 1999 });
const samples = [
  "The state of the Union is strong.",
  "  two spaces,\ttabs\r\nand  line\n\n\nbreaks  ",
  "I'll say we've said they're 1990's and 12,345.67 dollars",
  "naïve café – Ελλάς, Москва, 東京都, नमस्ते, עברית",
  "emoji 👩‍👩‍👧‍👦🏳️‍🌈 and a flag 🇪🇺, math ∑∫√ and a null\u0000byte",
  "\u0085next line\u00a0no-break\ufeffbyte order\u2028separator\u200bzero width",
  "snake_case $100+5=105 <tag> `code` ^caret~ |pipe| a<b>c",
  "x".repeat(300),
  "",
];

let cacheDir: string;
let bpe: TextTokenizer;
let wordpiece: TextTokenizer;
let addresses: string[];

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "espalier-tokenizers-"));
  bpe = await prepareTokenizer({ corpus, tokenizer: { kind: "bpe", vocabSize: 2000 }, cacheDir });
  wordpiece = await prepareTokenizer({ corpus, tokenizer: { kind: "wordpiece", vocabSize: 2000 }, cacheDir });
  addresses = [];
  for await (const text of sotuCorpus({ from: 1989, to: 1991 }).documents()) addresses.push(text);
});

afterAll(() => rm(cacheDir, { recursive: true, force: true }));

/** The parts of a tokenizer.json that a reference encoder reads. */
interface TokenizerFile {
  model: { vocab: { [token: string]: number }; merges: string[] };
}

/** Applies merges by rank, one at a time, as the algorithm is written down. */
function referenceBpe(json: string): (text: string) => number[] {
  const { vocab, merges } = (JSON.parse(json) as TokenizerFile).model;
  const ranks = new Map(merges.map((merge, rank) => [merge, rank]));
  return (text) =>
    (text.match(gpt2PreTokens) ?? []).flatMap((word) => {
      let symbols = Array.from(Buffer.from(word), (byte) => byteCharacters[byte]!);
      for (;;) {
        let best = Number.POSITIVE_INFINITY;
        for (let at = 0; at + 1 < symbols.length; at++)
          best = Math.min(best, ranks.get(`${symbols[at]} ${symbols[at + 1]}`) ?? best);
        if (best === Number.POSITIVE_INFINITY) break;
        const merged: string[] = [];
        for (let at = 0; at < symbols.length; at++)
          if (`${symbols[at]} ${symbols[at + 1]}` === merges[best])
            merged.push(symbols[at]! + symbols[++at]!);
          else merged.push(symbols[at]!);
        symbols = merged;
      }
      return symbols.map((symbol) => vocab[symbol]!);
    });
}

/** Longest piece first, for words of plain lower-case ASCII. */
function referenceWordPiece(json: string): (word: string) => number[] {
  const { vocab } = (JSON.parse(json) as TokenizerFile).model;
  return (word) => {
    const ids: number[] = [];
    for (let start = 0; start < word.length; ) {
      let end = word.length;
      const piece = () => (start === 0 ? "" : "##") + word.slice(start, end);
      while (end > start && vocab[piece()] === undefined) end--;
      if (end === start) return [vocab["[UNK]"]!];
      ids.push(vocab[piece()]!);
      start = end;
    }
    return ids;
  };
}

describe("the byte-level BPE that is trained", () => {
  it("has the size that was asked for, and the end of text as its only special token", () => {
    expect(bpe.info).toEqual({
      vocabSize: 2000,
      maskToken: null,
      padToken: null,
      endOfText: 0,
      specialTokens: [0],
    });
    expect(Tokenizer.fromString(bpe.json).getVocabSize(true)).toBe(2000);
  });

  it("writes bytes as the native library does", () => {
    expect([...byteCharacters].sort()).toEqual(byteLevelAlphabet().sort());
  });

  it("encodes as a plain application of its merges does", async () => {
    const reference = referenceBpe(bpe.json);
    for (const text of [...samples, addresses[0]!.slice(0, 5000)])
      expect([...(await bpe.encode(text))]).toEqual(reference(text));
  });

  it("gives every text back, whatever it is written in", async () => {
    for (const text of [...samples, ...addresses]) expect(bpe.decode(await bpe.encode(text))).toBe(text);
  });

  it("covers every byte", async () => {
    const everyCodePoint = Array.from({ length: 0x3000 }, (_, code) => String.fromCodePoint(code)).join("");
    expect(bpe.decode(await bpe.encode(everyCodePoint))).toBe(everyCodePoint);
    const { vocab } = (JSON.parse(bpe.json) as TokenizerFile).model;
    for (const character of byteCharacters) expect(vocab[character]).toBeTypeOf("number");
  });

  it("leaves special tokens out of decoded text unless they are asked for", async () => {
    const ids = [...(await bpe.encode("end")), 0];
    expect(bpe.decode(ids)).toBe("end");
    expect(bpe.decode(ids, { specialTokens: true })).toBe("end<|endoftext|>");
  });
});

describe("the WordPiece tokenizer that is trained", () => {
  it("has BERT's special tokens first", () => {
    expect(wordpiece.info).toEqual({
      vocabSize: 2000,
      maskToken: 4,
      padToken: 0,
      endOfText: 3,
      specialTokens: [0, 1, 2, 3, 4],
    });
    expect(wordpiece.markers).toEqual({ sequenceStart: 2, sequenceEnd: 3, documentEnd: 3 });
  });

  it("encodes the longest piece first", async () => {
    const reference = referenceWordPiece(wordpiece.json);
    const words = addresses[0]!
      .toLowerCase()
      .match(/[a-z]+/g)!
      .slice(0, 2000);
    expect([...(await wordpiece.encode(words.join(" ")))]).toEqual(words.flatMap(reference));
  });

  it("ignores case and accents, and knows every word of its own text", async () => {
    expect(await wordpiece.encode("PRÉSIDENT")).toEqual(await wordpiece.encode("president"));
    for (const text of addresses.slice(1)) expect(await wordpiece.encode(text)).not.toContain(1);
    expect(await wordpiece.encode("東")).toEqual(Int32Array.of(1));
  });

  it("decodes to the words", async () => {
    const text = "the state of the union, and its extraordinarily antidisestablishmentarian friends.";
    expect(wordpiece.decode(await wordpiece.encode(text))).toBe(text);
  });

  it("adds [CLS] and [SEP] where a reader of the file asks for them", async () => {
    const encoding = await Tokenizer.fromString(wordpiece.json).encode("the union", "is strong");
    expect(encoding.getTokens()).toEqual(["[CLS]", "the", "union", "[SEP]", "is", "strong", "[SEP]"]);
    expect(encoding.getTypeIds()).toEqual([0, 0, 0, 0, 1, 1, 1]);
  });
});

describe("encoding by word", () => {
  it("is the native encoding, for both kinds", async () => {
    const unicode = Array.from({ length: 0x500 }, (_, code) => `a${String.fromCodePoint(code)}b `).join("");
    const texts = [...samples, ...addresses, unicode, "one<|endoftext|>two [MASK] three[SEP]"];
    for (const tokenizer of [bpe, wordpiece]) {
      const native = Tokenizer.fromString(tokenizer.json);
      const expected = await native.encodeBatch(texts, { addSpecialTokens: false });
      const batch = await tokenizer.encodeBatch(texts);
      for (const [index, encoding] of expected.entries())
        expect([...batch[index]!]).toEqual(encoding.getIds());
      // Again, now that every word is remembered.
      expect(await tokenizer.encodeBatch(texts)).toEqual(batch);
    }
  });
});
