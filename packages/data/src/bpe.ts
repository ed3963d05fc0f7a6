import type { JsonObject } from "@espalier/core";
import type { CountedWord, LearnedMerges } from "./merge-training.js";
import { gpt2PreTokens } from "./pre-tokenization.js";

/** Stands after every document; the vocabulary's first token. */
export const endOfText = "<|endoftext|>";

/**
 * The character that stands for each byte in a byte-level vocabulary, as GPT-2 has it: printable bytes stand for
 * themselves, the rest for characters from U+0100 on.
 */
export const byteCharacters: readonly string[] = Array.from({ length: 256 }, (_, byte) =>
  isPrintable(byte) ? String.fromCodePoint(byte) : String.fromCodePoint(256 + unprintableBefore(byte)),
);

function isPrintable(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

function unprintableBefore(byte: number): number {
  let before = 0;
  for (let other = 0; other < byte; other++) if (!isPrintable(other)) before++;
  return before;
}

/** Tokens before the first merge: end of text, then one for each byte, by its character. */
export const bpeInitialTokens: readonly string[] = [endOfText, ...[...byteCharacters].sort()];

const byteTokens: readonly number[] = byteCharacters.map((character) => bpeInitialTokens.indexOf(character));

/** Counts the pre-tokens of a text. */
export function countBpeWords(text: string, counts: Map<string, number>): void {
  for (const word of text.match(gpt2PreTokens) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
}

/** Pre-tokens as bytes. */
export function bpeWords(counts: ReadonlyMap<string, number>): CountedWord[] {
  const words: CountedWord[] = [];
  for (const [word, count] of counts)
    words.push({ symbols: Array.from(Buffer.from(word, "utf8"), (byte) => byteTokens[byte]!), count });
  return words;
}

/** A byte-level BPE as Hugging Face's `tokenizer.json`. */
export function bpeTokenizerJson(learned: LearnedMerges): JsonObject {
  const { tokens, merges } = learned;
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: 0,
        content: endOfText,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      // Pairs as one string: read by every version of the format. Byte characters hold no space.
      merges: merges.map(([left, right]) => `${tokens[left]} ${tokens[right]}`),
    },
  };
}
