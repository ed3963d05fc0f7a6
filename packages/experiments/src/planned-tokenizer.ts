import type { TokenizerInfo } from "@espalier/core";
import type { Definition } from "./schema.js";

/**
 * What is known of a tokenizer that is not trained yet, for `plan` and `bench`, which read no corpus: its size, and that
 * it has the special tokens of its kind. The ids of those stand at the start of a trained vocabulary.
 */
export function plannedTokenizer(
  tokenizer: Extract<Definition["data"]["tokenizer"], { readonly vocabSize: number }>,
): TokenizerInfo {
  const { vocabSize } = tokenizer;
  return tokenizer.kind === "wordpiece"
    ? // [PAD] [UNK] [CLS] [SEP] [MASK]
      { vocabSize, padToken: 0, maskToken: 4, endOfText: 3, specialTokens: [0, 1, 2, 3, 4] }
    : { vocabSize, padToken: null, maskToken: null, endOfText: 0, specialTokens: [0] };
}
