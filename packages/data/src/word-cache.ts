import { bertChunks, gpt2PreTokens } from "./pre-tokenization.js";

/** Distinct words that are remembered; then the memory starts afresh. */
const capacity = 2 ** 19;

/** Encodes texts natively, without special tokens around them. */
export type EncodeBatch = (texts: readonly string[]) => Promise<Int32Array[]>;

/**
 * How a text falls apart into words whose encodings, one after the other, are the text's: known for GPT-2's and BERT's
 * pre-tokenization, which are most tokenizers. Null for any other.
 *
 * @param tokenizer the content of a `tokenizer.json`
 */
export function independentWords(tokenizer: unknown): RegExp | null {
  const preTokenizer = partOf(tokenizer, "pre_tokenizer");
  const normalizer = partOf(tokenizer, "normalizer");
  const model = partOf(partOf(tokenizer, "model"), "type");
  const kind = partOf(preTokenizer, "type");
  if (
    kind === "ByteLevel" &&
    normalizer === null &&
    model === "BPE" &&
    partOf(preTokenizer, "add_prefix_space") === false &&
    partOf(preTokenizer, "use_regex") !== false
  )
    return gpt2PreTokens;
  if (kind === "BertPreTokenizer" && partOf(normalizer, "type") === "BertNormalizer" && model === "WordPiece")
    return bertChunks;
  return null;
}

function partOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? new Map(Object.entries(value)).get(name) : undefined;
}

/**
 * Encodes by word, each distinct one natively and once: a text has far fewer distinct words than words, which makes this
 * several times as fast. The result is the native one. Texts in which an added token is written out (it may span words)
 * are encoded whole.
 *
 * @param words matches every word, see {@link independentWords}
 * @param addedTokens how added tokens are written
 */
export function encodeByWord(
  native: EncodeBatch,
  words: RegExp,
  addedTokens: readonly string[],
): EncodeBatch {
  let memory = new Map<string, Int32Array>();
  const isPlain = (text: string): boolean => addedTokens.every((token) => !text.includes(token));

  return async (texts) => {
    if (memory.size > capacity) memory = new Map();
    // A batch that is under way keeps the memory that it began with.
    const known = memory;
    const split = texts.map((text) => (isPlain(text) ? (text.match(words) ?? []) : null));
    const unknown = new Set<string>();
    for (const [index, parts] of split.entries())
      if (parts === null) unknown.add(texts[index]!);
      else for (const word of parts) if (!known.has(word)) unknown.add(word);
    const missing = [...unknown];
    const fresh = new Map<string, Int32Array>();
    for (const [index, ids] of (missing.length === 0 ? [] : await native(missing)).entries())
      fresh.set(missing[index]!, ids);
    const idsOf = (word: string): Int32Array => fresh.get(word) ?? known.get(word)!;
    const encoded = texts.map((text, index) => {
      const parts = split[index]!;
      return parts === null ? idsOf(text) : concatenate(parts.map(idsOf));
    });
    for (const [index, parts] of split.entries()) if (parts === null) fresh.delete(texts[index]!);
    for (const [word, ids] of fresh) known.set(word, ids);
    return encoded;
  };
}

function concatenate(parts: readonly Int32Array[]): Int32Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const all = new Int32Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
