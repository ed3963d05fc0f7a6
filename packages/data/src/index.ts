export { defaultCacheDir } from "./cache.js";
export type { HuggingFaceCorpusOptions } from "./corpora/huggingface.js";
export { huggingFaceCorpus } from "./corpora/huggingface.js";
export type { JsonlCorpusOptions } from "./corpora/jsonl.js";
export { jsonlCorpus } from "./corpora/jsonl.js";
export type { SizedCorpus } from "./corpora/sized-corpus.js";
export type { SotuCorpusOptions } from "./corpora/sotu.js";
export { sotuCorpus } from "./corpora/sotu.js";
export type { TextCorpusOptions } from "./corpora/text.js";
export { textCorpus } from "./corpora/text.js";
export { dataPlugin, dataPlugin as default } from "./data-plugin.js";
export type { SplitDocument, SplitRule } from "./document-split.js";
export { chooseSplitRule, defaultValidationShare, splitDocuments } from "./document-split.js";
export type { TokenizerUse } from "./hugging-face-files.js";
export { tokenizerFiles } from "./hugging-face-files.js";
export { causalLm } from "./objectives/causal-lm.js";
export type { MaskedLmOptions } from "./objectives/masked-lm.js";
export { maskedLm, maskedLmDefaults } from "./objectives/masked-lm.js";
export type { PackedSequences } from "./packed-sequences.js";
export { checkBatchSize } from "./packed-sequences.js";
export type { SequencePreparation } from "./prepare-sequences.js";
export { prepareSequences } from "./prepare-sequences.js";
export type {
  FileTokenizerOptions,
  TokenizerOptions,
  TokenizerPreparation,
  TrainedTokenizerOptions,
} from "./prepare-tokenizer.js";
export { prepareTokenizer } from "./prepare-tokenizer.js";
export type { OnProgress, ProgressOutput, ProgressRenderer } from "./progress.js";
export { progressRenderer } from "./progress.js";
export type { SequenceMarkers, TextTokenizer } from "./text-tokenizer.js";
export { loadTokenizer } from "./text-tokenizer.js";
