/**
 * GPT-2's pre-tokenization (Radford et al., 2019): contractions, words, numbers and runs of other signs, each with the
 * space before it. Written with White_Space where `\s` is usual, whose JavaScript meaning has U+FEFF in addition. The
 * matches cover the whole text.
 */
export const gpt2PreTokens =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/**
 * What stands between white space as BERT's normalizer sees it (Devlin et al., 2019): the control characters that
 * Unicode counts as white space are none, they are left out.
 */
export const bertChunks = /[^\t\n\r\p{Z}]+/gu;

/** BERT's pre-tokens of a normalised chunk: words, and each punctuation mark by itself; ASCII signs are punctuation. */
export const bertPreTokens = /[\p{P}$+<=>^`|~]|[^\p{White_Space}\p{P}$+<=>^`|~]+/gu;
