import {
  checkShape,
  formatShape,
  type ModelConfig,
  type ModelFamily,
  type Objective,
  shapeAxes,
  UsageError,
} from "@espalier/core";
import type { Definition } from "./schema.js";
import type { Locate } from "./schema-errors.js";
import { withPlace } from "./strategy-choice.js";

/**
 * The model that a definition trains.
 *
 * @param vocabSize rows of the embedding ({@link vocabularyRows})
 * @param start the model of the checkpoint that training starts from: what it fixes and the definition leaves open
 * (positions, epsilon) is taken from it
 * @throws UsageError for a shape that cannot be, or fewer positions than a sequence has
 */
export function modelConfig(
  definition: Definition,
  family: ModelFamily,
  vocabSize: number,
  start: ModelConfig | null,
  locate: Locate,
): ModelConfig {
  const { model, data } = definition;
  const config: ModelConfig = {
    family: family.name,
    depth: model.depth,
    hiddenSize: model.hiddenSize,
    attentionHeads: model.attentionHeads,
    intermediateSize: model.intermediateSize ?? 4 * model.hiddenSize,
    vocabSize,
    maxPositions: model.maxPositions ?? start?.maxPositions ?? data.sequenceLength,
    dropout: model.dropout,
    layerNormEpsilon: model.layerNormEpsilon ?? start?.layerNormEpsilon ?? family.defaults.layerNormEpsilon,
    initializerRange: model.initializerRange,
    tokenTypes: start?.tokenTypes ?? family.defaults.tokenTypes,
    ...(start?.padToken === undefined ? {} : { padToken: start.padToken }),
  };
  withPlace("model", locate, () => {
    checkShape(config);
    family.check(config);
  });
  if (data.sequenceLength > config.maxPositions)
    throw new UsageError(
      "ESPALIER_SEQUENCE_TOO_LONG",
      `"data.sequenceLength" is ${data.sequenceLength}, but the model has only ${config.maxPositions} positions`,
      {
        file: locate(["data", "sequenceLength"]),
        key: "data.sequenceLength",
        hint: `set data.sequenceLength to at most ${config.maxPositions}, or model.maxPositions to at least ${data.sequenceLength}`,
      },
    );
  return config;
}

/**
 * The rows of the embedding. Vocabularies are padded where that computes faster; a checkpoint that is trained further with
 * its own tokenizer file keeps its rows, and those that no token has are only ever scored.
 *
 * @param checkpoint the model of the checkpoint that training starts from
 */
export function vocabularyRows(
  definition: Definition,
  tokenizerTokens: number,
  checkpoint: ModelConfig | null,
): number {
  if (checkpoint === null || definition.data.tokenizer.kind !== "file") return tokenizerTokens;
  return Math.max(tokenizerTokens, checkpoint.vocabSize);
}

/** Refuses an objective that the family cannot be trained with. */
export function refuseObjective(
  objective: Objective,
  objectiveName: string,
  family: ModelFamily,
  locate: Locate,
): void {
  if (objective.causal === family.causal) return;
  throw new UsageError(
    "ESPALIER_OBJECTIVE_MISMATCH",
    objective.causal
      ? `"objective" is ${objectiveName}, which needs a causal model, but in ${family.name} every position sees the whole text`
      : `"objective" is ${objectiveName}, which needs a model that sees the whole text, but ${family.name} is causal`,
    {
      file: locate(["objective"]),
      key: "objective",
      hint: family.causal ? "use causal-lm with this family" : "use masked-lm with this family",
    },
  );
}

/** Refuses a source of another family, before anything of it is taken over. */
export function refuseOtherFamily(
  source: ModelConfig,
  family: ModelFamily,
  what: string,
  locate: Locate,
): void {
  if (source.family === family.name) return;
  throw new UsageError(
    "ESPALIER_START_FAMILY",
    `the ${what} is a model of the family ${source.family}, but "model.family" is ${family.name}`,
    {
      file: locate(["start"]),
      key: "start",
      hint: `set model.family to ${source.family}, or start from another model`,
    },
  );
}

/**
 * Refuses a source that the run's model cannot come from. A smaller shape is no fault: growth begins there, and stages that
 * are no larger are passed over.
 *
 * @param wanted the model that training ends at
 * @param what the checkpoint or the nested definition, for the message
 */
export function refuseStart(start: ModelConfig, wanted: ModelConfig, what: string, locate: Locate): void {
  const differences: string[] = [];
  for (const axis of shapeAxes)
    if (start[axis] > wanted[axis])
      differences.push(`${axis} ${start[axis]}, which cannot shrink to ${wanted[axis]}`);
  for (const key of ["vocabSize", "maxPositions", "tokenTypes"] as const)
    if (start[key] !== wanted[key]) differences.push(`${key} ${start[key]} instead of ${wanted[key]}`);
  if (differences.length === 0) return;
  throw new UsageError(
    "ESPALIER_START_SHAPE",
    `the ${what} (${formatShape(start)}) is not a model that training could start from: the definition's model is ${formatShape(wanted)}, and the source has ${differences.join(", ")}`,
    {
      file: locate(["start"]),
      key: "start",
      hint:
        differences.length === 1 && start.vocabSize > wanted.vocabSize
          ? "a checkpoint keeps rows that no token has where its own tokenizer is named: data.tokenizer: { kind: file, path: … }"
          : "change the model or the tokenizer, or start from another model",
    },
  );
}
