import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { bpeInitialTokens, bpeWords, countBpeWords } from "./bpe.js";
import { sotuCorpus } from "./corpora/sotu.js";
import {
  type CountedWord,
  type LearnedMerges,
  learnMerges,
  type MergeTrainingInput,
} from "./merge-training.js";
import { countWordPieceChunks, joinWordPieces, wordPieceStart, wordPieceWords } from "./wordpiece.js";

/** The algorithm as it is written down: all pairs counted anew before every merge. */
function learnNaively(input: MergeTrainingInput): LearnedMerges {
  const tokens = [...input.initialTokens];
  const merges: [number, number][] = [];
  let words = input.words.map((word) => ({ symbols: [...word.symbols], count: word.count }));
  while (tokens.length < input.vocabSize) {
    const counts = new Map<string, number>();
    for (const { symbols, count } of words)
      for (let at = 0; at + 1 < symbols.length; at++) {
        const pair = `${symbols[at]} ${symbols[at + 1]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + count);
      }
    let best: { left: number; right: number; count: number } | null = null;
    for (const [pair, count] of counts) {
      const [left, right] = pair.split(" ").map(Number) as [number, number];
      const wins =
        best === null ||
        count > best.count ||
        (count === best.count && (left < best.left || (left === best.left && right < best.right)));
      if (wins) best = { left, right, count };
    }
    if (best === null) break;
    const { left, right } = best;
    const token = input.join(tokens[left]!, tokens[right]!);
    let id = tokens.indexOf(token);
    if (id < 0) id = tokens.push(token) - 1;
    merges.push([left, right]);
    words = words.map(({ symbols, count }) => {
      const merged: number[] = [];
      for (let at = 0; at < symbols.length; at++)
        if (symbols[at] === left && symbols[at + 1] === right) {
          merged.push(id);
          at++;
        } else merged.push(symbols[at]!);
      return { symbols: merged, count };
    });
  }
  return { tokens, merges };
}

const letters = [..."abcdefghijklmnopqrstuvwxyz"];

function wordsOf(counts: { readonly [word: string]: number }): CountedWord[] {
  return Object.entries(counts).map(([word, count]) => ({
    symbols: [...word].map((letter) => letters.indexOf(letter)),
    count,
  }));
}

const concatenated = { initialTokens: letters, join: (left: string, right: string) => left + right };

async function addresses(from: number, to: number): Promise<string[]> {
  const texts: string[] = [];
  for await (const text of sotuCorpus({ from, to }).documents()) texts.push(text);
  return texts;
}

describe("learnMerges", () => {
  it("merges the example of Sennrich et al. in the published order", async () => {
    const words = wordsOf({ low: 5, lower: 2, newest: 6, widest: 3 });
    const learned = await learnMerges({ ...concatenated, words, vocabSize: letters.length + 4 });
    expect(learned.tokens.slice(letters.length)).toEqual(["es", "est", "lo", "low"]);
  });

  it("takes the smallest ids among equally frequent pairs", async () => {
    const learned = await learnMerges({
      ...concatenated,
      words: wordsOf({ zy: 2, ab: 2, ac: 2 }),
      vocabSize: letters.length + 3,
    });
    expect(learned.tokens.slice(letters.length)).toEqual(["ab", "ac", "zy"]);
  });

  it("stops where no pair is left", async () => {
    const learned = await learnMerges({
      ...concatenated,
      words: wordsOf({ aaaa: 1, b: 9 }),
      vocabSize: 1000,
    });
    expect(learned.tokens.slice(letters.length)).toEqual(["aa", "aaaa"]);
  });

  it("keeps one id for a token that two pairs spell", async () => {
    const words = wordsOf({ abc: 3, ab: 10, xbc: 9, bc: 20 });
    const learned = await learnMerges({ ...concatenated, words, vocabSize: 1000 });
    expect(new Set(learned.tokens).size).toBe(learned.tokens.length);
    expect(learned).toEqual(learnNaively({ ...concatenated, words, vocabSize: 1000 }));
  });

  it("is what counting anew before every merge gives, for bytes and for word pieces", async () => {
    const text = (await addresses(1790, 1792)).join("\n").slice(0, 8000);
    const byteCounts = new Map<string, number>();
    countBpeWords(text, byteCounts);
    const bytes = {
      initialTokens: bpeInitialTokens,
      words: bpeWords(byteCounts),
      join: (left: string, right: string) => left + right,
      vocabSize: 420,
    };
    expect(await learnMerges(bytes)).toEqual(learnNaively(bytes));
    const chunkCounts = new Map<string, number>();
    countWordPieceChunks(text, chunkCounts);
    const pieces = {
      ...wordPieceStart(await wordPieceWords(chunkCounts)),
      join: joinWordPieces,
      vocabSize: 400,
    };
    expect(await learnMerges(pieces)).toEqual(learnNaively(pieces));
  });

  it("learns the merges that Hugging Face's own trainer learns", async () => {
    const counts = new Map<string, number>();
    for (const text of await addresses(1790, 1810)) countBpeWords(text, counts);
    const { tokens, merges } = await learnMerges({
      initialTokens: bpeInitialTokens,
      words: bpeWords(counts),
      join: (left, right) => left + right,
      vocabSize: 2000,
    });
    const written = merges.map(([left, right]) => `${tokens[left]} ${tokens[right]}`).join("\n");
    // PyPI tokenizers 0.23.3, BpeTrainer(vocab_size=2000, initial_alphabet=ByteLevel.alphabet()) on the same addresses.
    expect(createHash("sha256").update(written).digest("hex")).toBe(
      "af416d6c5c6345821a75f2d710a02a09aa2394b68c8624107466ab8c5f38c2ce",
    );
  });
});
