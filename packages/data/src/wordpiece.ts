import type { JsonObject } from "@espalier/core";
import type { CountedWord, LearnedMerges } from "./merge-training.js";
import { bertChunks, bertPreTokens } from "./pre-tokenization.js";

/** BERT's special tokens; their ids are 0 to 4. */
export const wordPieceSpecialTokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] as const;

/** Marks a piece that continues a word. */
const continuation = "##";
/** Rarer characters become `[UNK]`: a text in many scripts would fill the vocabulary with them. */
const alphabetLimit = 1000;

/** Counts what stands between white space, as it is written. */
export function countWordPieceChunks(text: string, counts: Map<string, number>): void {
  for (const chunk of text.match(bertChunks) ?? []) counts.set(chunk, (counts.get(chunk) ?? 0) + 1);
}

/**
 * Normalises and pre-tokenises counted chunks as BERT does (lower case, no accents, Chinese characters apart,
 * punctuation apart). Each distinct chunk is normalised once, natively, so that training and encoding agree.
 */
export async function wordPieceWords(chunkCounts: ReadonlyMap<string, number>): Promise<Map<string, number>> {
  const { bertNormalizer } = await import("tokenizers");
  const normalizer = bertNormalizer();
  const counts = new Map<string, number>();
  for (const [chunk, count] of chunkCounts)
    for (const word of normalizer.normalizeString(chunk).match(bertPreTokens) ?? [])
      counts.set(word, (counts.get(word) ?? 0) + count);
  return counts;
}

/** The tokens before the first merge, and the words in them. */
export interface WordPieceStart {
  readonly initialTokens: readonly string[];
  readonly words: readonly CountedWord[];
}

/** Special tokens, characters that begin a word, characters that continue one; each group by code point. */
export function wordPieceStart(counts: ReadonlyMap<string, number>): WordPieceStart {
  const frequency = new Map<string, number>();
  const continuing = new Set<string>();
  for (const [word, count] of counts) {
    let first = true;
    for (const character of word) {
      frequency.set(character, (frequency.get(character) ?? 0) + count);
      if (!first) continuing.add(character);
      first = false;
    }
  }
  const alphabet = [...frequency]
    .sort(([a, countA], [b, countB]) => countB - countA || a.codePointAt(0)! - b.codePointAt(0)!)
    .slice(0, alphabetLimit)
    .map(([character]) => character)
    .sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
  const initialTokens = [
    ...wordPieceSpecialTokens,
    ...alphabet,
    ...alphabet.filter((character) => continuing.has(character)).map((character) => continuation + character),
  ];
  const ids = new Map(initialTokens.map((token, id) => [token, id]));
  const words: CountedWord[] = [];
  for (const [word, count] of counts) {
    const symbols: number[] = [];
    for (const character of word) {
      const id = ids.get(symbols.length === 0 ? character : continuation + character);
      if (id === undefined) break;
      symbols.push(id);
    }
    // A word with a character outside of the alphabet is [UNK] as a whole: nothing to learn from it.
    if (symbols.length === [...word].length) words.push({ symbols, count });
  }
  return { initialTokens, words };
}

/** How two pieces are written as one. */
export function joinWordPieces(left: string, right: string): string {
  return left + right.slice(continuation.length);
}

/** A WordPiece tokenizer as Hugging Face's `tokenizer.json`. Encoding takes the longest piece that fits, from the left. */
export function wordPieceTokenizerJson(learned: LearnedMerges): JsonObject {
  const token = (name: (typeof wordPieceSpecialTokens)[number]): number =>
    wordPieceSpecialTokens.indexOf(name);
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: wordPieceSpecialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single: [
        { SpecialToken: { id: "[CLS]", type_id: 0 } },
        { Sequence: { id: "A", type_id: 0 } },
        { SpecialToken: { id: "[SEP]", type_id: 0 } },
      ],
      pair: [
        { SpecialToken: { id: "[CLS]", type_id: 0 } },
        { Sequence: { id: "A", type_id: 0 } },
        { SpecialToken: { id: "[SEP]", type_id: 0 } },
        { Sequence: { id: "B", type_id: 1 } },
        { SpecialToken: { id: "[SEP]", type_id: 1 } },
      ],
      special_tokens: {
        "[CLS]": { id: "[CLS]", ids: [token("[CLS]")], tokens: ["[CLS]"] },
        "[SEP]": { id: "[SEP]", ids: [token("[SEP]")], tokens: ["[SEP]"] },
      },
    },
    decoder: { type: "WordPiece", prefix: continuation, cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: continuation,
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(learned.tokens.map((piece, id) => [piece, id])),
    },
  };
}
