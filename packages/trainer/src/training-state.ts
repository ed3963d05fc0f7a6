import {
  EspalierError,
  type Json,
  type JsonObject,
  type ModelConfig,
  type TrainingParameters,
  UsageError,
} from "@espalier/core";
import { z } from "zod";
import type { GrowthRecord, TrainingSetup } from "./training-setup.js";

/** What changes while a run trains. All of it is in a checkpoint. */
export interface TrainingState {
  /** The model as it is now. */
  config: ModelConfig;
  parameters: TrainingParameters;
  /** Completed optimizer steps. */
  step: number;
  /** Micro-steps so far: the position in data, masks, depths and dropout. */
  microStep: number;
  /** Growths so far. */
  stage: number;
  tokens: number;
  flops: number;
  /** FLOPs of the source; see `TrainingResult`. */
  sourceFlops: number | null;
  /** Training time of all sessions, without evaluation and checkpoints. */
  seconds: number;
  scheduleMemory: Json;
  samplerMemory: Json;
  /** The latest evaluation loss at the unique layers. */
  evaluationLoss: number | null;
  /** Completed steps at that evaluation. */
  evaluatedAt: number | null;
  /** The last step's loss. */
  trainLoss: number | null;
  /** The budget that was spent at the latest growth. */
  grownAt: number | null;
  growths: GrowthRecord[];
}

// A stream's draws are a pure function of seed, labels and index; another generator would need another name here.
const randomStreams = "philox4x32-10";

const json: z.ZodType<Json> = z.json();
const count = z.int().min(0);
const shape = z.object({
  depth: count,
  hiddenSize: count,
  attentionHeads: count,
  intermediateSize: count,
});

const stateSchema = z.object({
  format: z.literal("espalier-state"),
  version: z.literal(1),
  definitionHash: z.string(),
  seed: count,
  precision: z.enum(["fp32", "bf16"]).default("fp32"),
  randomStreams: z.literal(randomStreams),
  step: count,
  microStep: count,
  stage: count,
  tokens: count,
  flops: z.number().min(0),
  sourceFlops: z.number().min(0).nullable().default(0),
  seconds: z.number().min(0),
  shape,
  target: shape,
  scheduleMemory: json,
  samplerMemory: json,
  evaluationLoss: z.number().nullable(),
  evaluatedAt: count.nullable(),
  trainLoss: z.number().nullable(),
  grownAt: z.number().nullable(),
  growths: z.array(
    z.object({
      step: count,
      stage: count,
      from: shape,
      to: shape,
      expander: z.string(),
      layerMap: z.array(count).nullable(),
      mapHash: z.string(),
      seconds: z.number(),
    }),
  ),
});

/** The content of `state.json`. */
export function stateToJson(state: TrainingState, setup: TrainingSetup): JsonObject {
  const { config, parameters: _, ...rest } = state;
  return stateSchema.parse({
    format: "espalier-state",
    version: 1,
    definitionHash: setup.definitionHash,
    seed: setup.seed,
    precision: setup.precision ?? "fp32",
    randomStreams,
    shape: config,
    target: setup.config,
    ...rest,
  });
}

const spentSchema = z.object({
  flops: z.number().min(0),
  sourceFlops: z.number().min(0).nullable().default(0),
});

/**
 * FLOPs that training a checkpoint took, its own source included; null where its `state.json` does not say, as in a folder
 * of another library.
 */
export function spentOnCheckpoint(state: JsonObject | null): number | null {
  const { data } = spentSchema.safeParse(state);
  return data && data.sourceFlops !== null ? data.flops + data.sourceFlops : null;
}

/**
 * The state that `state.json` describes, its parameters still to be loaded.
 *
 * @throws EspalierError ESPALIER_CHECKPOINT_DAMAGED if it is not what was written
 * @throws UsageError ESPALIER_RESUME_CHANGED if another definition, seed or precision wrote it
 */
export function stateFromJson(
  value: JsonObject | null,
  file: string,
  setup: TrainingSetup,
): Omit<TrainingState, "parameters"> {
  const parsed = stateSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new EspalierError(
      "ESPALIER_CHECKPOINT_DAMAGED",
      `${file} does not describe a training state: ${issue.path.join(".") || "it"}: ${issue.message}`,
      { file, key: issue.path.join(".") },
    );
  }
  const {
    definitionHash,
    seed,
    precision,
    shape: currentShape,
    format: _,
    version: __,
    ...rest
  } = parsed.data;
  const nowPrecision = setup.precision ?? "fp32";
  const changes = [
    ...(seed === setup.seed ? [] : [`seed ${seed}, now ${setup.seed}`]),
    ...(precision === nowPrecision ? [] : [`precision ${precision}, now ${nowPrecision}`]),
  ];
  if (definitionHash !== setup.definitionHash || changes.length > 0)
    throw new UsageError(
      "ESPALIER_RESUME_CHANGED",
      `${file} was written by another definition${changes.length === 0 ? "" : ` (${changes.join("; ")})`}; a run is resumed with the definition that it began with`,
      { file, hint: "undo the change, or start a new run with `start:` pointing at this checkpoint" },
    );
  const { randomStreams: ___, target: ____, ...progress } = rest;
  return { ...progress, config: { ...setup.config, ...currentShape } };
}
