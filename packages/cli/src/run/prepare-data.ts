import { resolve } from "node:path";
import { type ModelConfig, UsageError } from "@espalier/core";
import { prepareSequences, prepareTokenizer, progressRenderer, type TextTokenizer } from "@espalier/data";
import { createStrategy, type Experiment, plannedServices } from "@espalier/experiments";
import { type HeldInputs, tokenizerToRead } from "./held-inputs.js";

/** Text, ready to be trained on. */
export interface PreparedData {
  readonly tokenizer: TextTokenizer;
  readonly data: Awaited<ReturnType<typeof prepareSequences>>;
  /** The experiment's model. */
  readonly config: ModelConfig;
}

/**
 * Reads the corpus, trains or reads the tokenizer and packs the sequences; from the cache where that has been done.
 *
 * @param held what the run that is continued holds itself of what it was started from
 */
export async function prepareData(experiment: Experiment, held: HeldInputs): Promise<PreparedData> {
  const { definition, choices, locate } = experiment;
  const { baseDirectory } = experiment.loaded.source;
  const corpus = createStrategy(choices.corpus, plannedServices(experiment), locate);
  const progress = progressRenderer();
  try {
    const { validationShare, sequenceLength } = definition.data;
    const named = definition.data.tokenizer;
    const tokenizer = await prepareTokenizer({
      corpus,
      tokenizer:
        named.kind === "file"
          ? { kind: "file", path: await tokenizerToRead(resolve(baseDirectory, named.path), held) }
          : named,
      validationShare,
      baseDirectory,
      onProgress: progress.onProgress,
    });
    refuseOtherVocabulary(experiment, tokenizer.info.vocabSize);
    const data = await prepareSequences({
      corpus,
      tokenizer,
      sequenceLength,
      validationShare,
      onProgress: progress.onProgress,
    });
    return { tokenizer, data, config: experiment.config };
  } finally {
    progress.close();
  }
}

// A trained vocabulary has the size that was asked for, or training it fails; this guards the plan's premise.
function refuseOtherVocabulary(experiment: Experiment, vocabSize: number): void {
  const planned = experiment.tokenizer.vocabSize;
  if (vocabSize === planned) return;
  throw new UsageError(
    "ESPALIER_VOCABULARY_MISMATCH",
    `the tokenizer has ${vocabSize} tokens, but ${planned} were planned with`,
    { file: experiment.locate(["data", "tokenizer"]), key: "data.tokenizer" },
  );
}
