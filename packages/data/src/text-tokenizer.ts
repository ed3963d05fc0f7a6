import { createHash } from "node:crypto";
import { EspalierError, type TokenizerInfo } from "@espalier/core";
import { type EncodeBatch, encodeByWord, independentWords } from "./word-cache.js";

/** The tokens that packing puts around documents and sequences; null where there is none. */
export interface SequenceMarkers {
  /** First token of every sequence: BERT's `[CLS]`. */
  readonly sequenceStart: number | null;
  /** Last token of every sequence: BERT's `[SEP]`. */
  readonly sequenceEnd: number | null;
  /** Stands after every document: `<|endoftext|>`, `[SEP]`. */
  readonly documentEnd: number | null;
}

/** A tokenizer in use. */
export interface TextTokenizer {
  readonly info: TokenizerInfo;
  readonly markers: SequenceMarkers;
  /** The content of its Hugging Face `tokenizer.json`. */
  readonly json: string;
  /** SHA-256 of `json`. */
  readonly fingerprint: string;
  /** Token ids of a text, without any special tokens around it. Native and off the main thread, hence a promise. */
  encode(text: string): Promise<Int32Array>;
  /** The same for many texts at once, on all cores. */
  encodeBatch(texts: readonly string[]): Promise<Int32Array[]>;
  /** The text of token ids; special tokens are left out unless they are asked for. */
  decode(ids: ArrayLike<number>, options?: { readonly specialTokens?: boolean }): string;
}

/** Names under which special tokens are known, by role, in order of preference. */
const knownNames = {
  mask: ["[MASK]", "<mask>"],
  pad: ["[PAD]", "<pad>", "<|padding|>", "<|pad|>"],
  endOfText: ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "<|eos|>"],
} as const;

/** Beginning and end of a sequence, BERT's way and RoBERTa's. The second needs a mask token: `<s>` alone is LLaMA's. */
const sequencePairs = [
  ["[CLS]", "[SEP]"],
  ["<s>", "</s>"],
] as const;

/**
 * Loads a Hugging Face `tokenizer.json` into the native tokenizer. Truncation and padding that the file may set are
 * switched off: a corpus is packed, not cut.
 *
 * @param json the file's content
 * @param file where it came from, for messages
 * @throws EspalierError ESPALIER_TOKENIZER_INVALID if it is not a tokenizer
 */
export async function loadTokenizer(json: string, file?: string): Promise<TextTokenizer> {
  const { Tokenizer } = await import("tokenizers");
  let native: InstanceType<typeof Tokenizer>;
  try {
    native = Tokenizer.fromString(json);
  } catch (error) {
    throw new EspalierError(
      "ESPALIER_TOKENIZER_INVALID",
      `not a Hugging Face tokenizer.json: ${error instanceof Error ? error.message : String(error)}`,
      { ...(file === undefined ? {} : { file }), cause: error },
    );
  }
  native.disableTruncation();
  native.disablePadding();

  const first = (names: readonly string[]): number | null => {
    for (const name of names) {
      const id = native.tokenToId(name);
      if (id !== null) return id;
    }
    return null;
  };
  const maskToken = first(knownNames.mask);
  let markers: SequenceMarkers = {
    sequenceStart: null,
    sequenceEnd: null,
    documentEnd: first(knownNames.endOfText),
  };
  for (const [start, end] of sequencePairs) {
    const sequenceStart = native.tokenToId(start);
    const sequenceEnd = native.tokenToId(end);
    if (maskToken !== null && sequenceStart !== null && sequenceEnd !== null) {
      markers = { sequenceStart, sequenceEnd, documentEnd: sequenceEnd };
      break;
    }
  }

  const parsed: unknown = JSON.parse(json);
  const added = addedTokens(parsed);
  // By the id in use: the native library gives an added token that its model does not have the next free one.
  const special = added
    .filter((token) => token.special)
    .map((token) => native.tokenToId(token.content))
    .filter((id) => id !== null)
    .sort((a, b) => a - b);
  const isSpecial = new Set(special);
  // Ids may have gaps, and a model needs a row for the largest of them.
  const vocabSize = 1 + Object.values(native.getVocab(true)).reduce((a, b) => Math.max(a, b), -1);
  const decoder = native.getDecoder();
  const encodeOptions = { addSpecialTokens: false };
  const encodeNatively: EncodeBatch = async (texts) => {
    const encodings = await native.encodeBatch([...texts], encodeOptions);
    return encodings.map((encoding) => Int32Array.from(encoding.getIds()));
  };
  const words = independentWords(parsed);
  const written = added.map((token) => token.content);

  return {
    info: {
      vocabSize,
      maskToken,
      padToken: first(knownNames.pad),
      endOfText: markers.documentEnd,
      specialTokens: special,
    },
    markers,
    json,
    fingerprint: createHash("sha256").update(json).digest("hex"),
    async encode(text) {
      return Int32Array.from((await native.encode(text, null, encodeOptions)).getIds());
    },
    encodeBatch: words === null ? encodeNatively : encodeByWord(encodeNatively, words, written),
    decode(ids, options = {}) {
      const pieces: string[] = [];
      for (let at = 0; at < ids.length; at++) {
        const id = ids[at]!;
        if (!options.specialTokens && isSpecial.has(id)) continue;
        const piece = native.idToToken(id);
        if (piece !== null) pieces.push(piece);
      }
      return decoder === null ? pieces.join(" ") : decoder.decode(pieces);
    },
  };
}

interface AddedToken {
  readonly content: string;
  readonly special: boolean;
}

/** The tokens that the file adds to its model's. */
function addedTokens(tokenizer: unknown): AddedToken[] {
  if (typeof tokenizer !== "object" || tokenizer === null || !("added_tokens" in tokenizer)) return [];
  if (!Array.isArray(tokenizer.added_tokens)) return [];
  const found: AddedToken[] = [];
  for (const entry of tokenizer.added_tokens as readonly unknown[]) {
    if (typeof entry !== "object" || entry === null || !("content" in entry)) continue;
    if (typeof entry.content !== "string") continue;
    found.push({ content: entry.content, special: "special" in entry && entry.special === true });
  }
  return found;
}
