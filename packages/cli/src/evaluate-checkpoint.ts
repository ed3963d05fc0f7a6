import { identityLayerMap, UsageError } from "@espalier/core";
import { prepareSequences, prepareTokenizer, progressRenderer } from "@espalier/data";
import {
  checkDefinition,
  chooseStrategy,
  createStrategy,
  type LoadedDefinition,
  loadDefinition,
  parseOverride,
  splitReference,
} from "@espalier/experiments";
import { evaluate, loadWeights } from "@espalier/trainer";
import * as tf from "@tensorflow/tfjs";
import { openModel } from "./checkpoint-model.js";
import { loadRegistry } from "./composition-root.js";
import { type EngineOptions, engineOverrides } from "./engine-options.js";
import { readTokenizer } from "./read-tokenizer.js";
import { definitionOfRun } from "./run/definition-of-run.js";
import { loadEngine } from "./run/engine.js";

/** What to evaluate on. */
export interface EvaluationRequest extends EngineOptions {
  /** A definition's path; default: that of the checkpoint's run. */
  readonly definition?: string;
  readonly overrides: readonly string[];
  readonly batches?: number;
  note(text: string): void;
}

/** What `espalier evaluate --json` prints. */
export interface CheckpointEvaluation {
  /** Mean over the counted positions, in nats. */
  readonly loss: number;
  readonly perplexity: number;
  /** Layers that were executed: the checkpoint's own. */
  readonly depth: number;
  readonly sequences: number;
  readonly positions: number;
  readonly checkpoint: string;
  readonly step: number | null;
  readonly backend: string;
}

/**
 * The loss of a checkpoint on the held-out part of a corpus.
 *
 * @throws UsageError where checkpoint, definition or tokenizer are missing or do not fit
 */
export async function evaluateCheckpoint(
  path: string,
  request: EvaluationRequest,
): Promise<CheckpointEvaluation> {
  const loaded = await definitionFor(path, request);
  const { definition, locate } = loaded;
  const { baseDirectory } = loaded.source;
  const registry = await loadRegistry(loaded);
  const { checkpoint, family, config } = await openModel(path, registry, request.note);
  try {
    const corpus = createStrategy(
      chooseStrategy(registry, "corpus", splitReference(definition.data.corpus), "data.corpus", locate),
      { baseDirectory },
      locate,
    );
    const { sequenceLength, validationShare } = definition.data;
    if (sequenceLength > config.maxPositions)
      throw new UsageError(
        "ESPALIER_SEQUENCE_TOO_LONG",
        `"data.sequenceLength" is ${sequenceLength}, but the checkpoint has only ${config.maxPositions} positions`,
        { file: locate(["data", "sequenceLength"]), key: "data.sequenceLength" },
      );
    const backend = await loadEngine(definition, request.note);
    const progress = progressRenderer();
    const { onProgress } = progress;
    const tokenizer =
      checkpoint.tokenizerFile === null
        ? await prepareTokenizer({
            corpus,
            tokenizer: definition.data.tokenizer,
            validationShare,
            baseDirectory,
            onProgress,
          })
        : await readTokenizer(checkpoint.tokenizerFile);
    if (tokenizer.info.vocabSize > config.vocabSize)
      throw new UsageError(
        "ESPALIER_VOCABULARY_MISMATCH",
        `the tokenizer has ${tokenizer.info.vocabSize} tokens, but the checkpoint "${path}" only ${config.vocabSize}`,
        { file: locate(["data", "tokenizer"]), key: "data.tokenizer" },
      );
    const objective = createStrategy(
      chooseStrategy(
        registry,
        "objective",
        splitReference(definition.objective ?? (family.causal ? "causal-lm" : "masked-lm")),
        "objective",
        locate,
      ),
      { tokenizer: tokenizer.info },
      locate,
    );
    if (objective.causal !== family.causal)
      throw new UsageError(
        "ESPALIER_OBJECTIVE_MISMATCH",
        `the definition's objective does not fit the checkpoint's family ${family.name}`,
        { file: locate(["objective"]), key: "objective" },
      );
    const data = await prepareSequences({ corpus, tokenizer, sequenceLength, validationShare, onProgress });
    progress.close();
    const weights = await loadWeights(checkpoint, family, config);
    try {
      const result = await evaluate({
        family,
        config,
        weights,
        layerMap: identityLayerMap(config.depth),
        data,
        objective,
        precision: definition.training.precision,
        batchSize: definition.training.batchSize,
        batches: request.batches ?? definition.evaluation.batches,
      });
      return {
        ...result,
        depth: config.depth,
        checkpoint: checkpoint.folder,
        step: checkpoint.step,
        backend: backend.name,
      };
    } finally {
      tf.dispose([...weights.values()]);
      data.close();
    }
  } finally {
    await checkpoint.close();
  }
}

async function definitionFor(path: string, request: EvaluationRequest): Promise<LoadedDefinition> {
  const overrides = [...request.overrides, ...engineOverrides(request)];
  if (request.definition !== undefined) return loadDefinition(request.definition, overrides);
  const source = await definitionOfRun(path);
  if (!source)
    throw new UsageError(
      "ESPALIER_EVALUATE_DEFINITION",
      `"${path}" belongs to no run, so it takes a definition to say on which corpus it is evaluated`,
      { file: path, hint: "espalier evaluate <checkpoint> <definition>" },
    );
  return checkDefinition(source, await Promise.all(overrides.map(parseOverride)));
}
