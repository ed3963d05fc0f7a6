import type { LayerMap, ModelShape } from "@espalier/core";
import { z } from "zod";
import { count, real } from "./json-line.js";

/** What one optimizer step measured: one line of `metrics.jsonl`. */
export interface StepMetrics {
  /** Completed optimizer steps, this one included: from 1. */
  readonly step: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** Mean training loss over the step's micro-steps. */
  readonly loss: number;
  /** Executed layers; with gradient accumulation those of the last micro-step, and `depths` has them all. */
  readonly depth: number;
  /** Executed layers of each micro-step, where there are several. */
  readonly depths?: readonly number[] | undefined;
  /** Index of the growth stage, from 0. */
  readonly stage: number;
  /** Layers that hold weights. */
  readonly uniqueLayers: number;
  /** The rate that this step's update used. */
  readonly learningRate: number;
  /** Global L2 norm of the gradient before clipping. */
  readonly gradientNorm: number;
  /** Training FLOPs of the run so far. */
  readonly flops: number;
  /** Training tokens of the run so far. */
  readonly tokens: number;
  /** Training seconds of the run so far, over all its sessions. */
  readonly seconds: number;
  readonly tokensPerSecond: number;
}

interface AnyEvent {
  /** Completed optimizer steps when it happened. */
  readonly step: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
}

/** The run began. */
export interface StartEvent extends AnyEvent {
  readonly event: "start";
  /** FLOPs that training its source took; 0 without a source, null where the source does not say. */
  readonly sourceFlops?: number | null | undefined;
}

/** A later session went on from a checkpoint of `step` completed steps. */
export interface ResumeEvent extends AnyEvent {
  readonly event: "resume";
}

/** The model grew. */
export interface GrowthEvent extends AnyEvent {
  readonly event: "growth";
  /** Index of the stage that begins. */
  readonly stage: number;
  readonly from: ModelShape;
  readonly to: ModelShape;
  /** Name of the expander. */
  readonly expander: string;
  /** Which old layer each new one comes from; `null` where the growth map is not a layer map. */
  readonly layerMap: LayerMap | null;
  /** Hash of the whole growth map. */
  readonly mapHash: string;
  /** Seconds that the growth took. */
  readonly seconds: number;
}

/** Loss on held-out text. */
export interface EvaluationEvent extends AnyEvent {
  readonly event: "evaluation";
  /** Held-out loss with `depth` layers executed. */
  readonly loss: number;
  readonly depth: number;
  /** Where layers are shared: the target depth, and the held-out loss with that many layers executed. */
  readonly targetDepth?: number | undefined;
  readonly targetLoss?: number | undefined;
  /** Training FLOPs, tokens and seconds so far. */
  readonly flops: number;
  readonly tokens: number;
  readonly seconds: number;
}

/** A checkpoint is complete on disk. */
export interface CheckpointEvent extends AnyEvent {
  readonly event: "checkpoint";
  /** Relative to the run folder. */
  readonly path: string;
}

/** The loss or the gradient norm was not finite, and the run stopped. */
export interface DivergedEvent extends AnyEvent {
  readonly event: "diverged";
  readonly loss?: number | undefined;
  /** Missing where an evaluation's loss was not finite. */
  readonly gradientNorm?: number | undefined;
}

/** The user stopped the run. */
export interface InterruptedEvent extends AnyEvent {
  readonly event: "interrupted";
}

/** The budget is used up. */
export interface EndEvent extends AnyEvent {
  readonly event: "end";
  readonly finalTrainLoss: number | null;
  /** `null` where nothing was evaluated. */
  readonly finalEvalLoss: number | null;
  readonly flops: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
}

/** One line of `events.jsonl`. */
export type RunEvent =
  | StartEvent
  | ResumeEvent
  | GrowthEvent
  | EvaluationEvent
  | CheckpointEvent
  | DivergedEvent
  | InterruptedEvent
  | EndEvent;

export const stepMetricsSchema: z.ZodType<StepMetrics> = z.object({
  step: count.min(1),
  time: count,
  loss: real,
  depth: count,
  depths: z.array(count).optional(),
  stage: count,
  uniqueLayers: count,
  learningRate: real,
  gradientNorm: real,
  flops: real,
  tokens: count,
  seconds: real,
  tokensPerSecond: real,
});

const shape = z.object({
  depth: count,
  hiddenSize: count,
  attentionHeads: count,
  intermediateSize: count,
});
const moment = { step: count, time: count };

export const runEventSchema: z.ZodType<RunEvent> = z.discriminatedUnion("event", [
  z.object({ event: z.literal("start"), ...moment, sourceFlops: real.nullable().optional() }),
  z.object({ event: z.literal("resume"), ...moment }),
  z.object({
    event: z.literal("growth"),
    ...moment,
    stage: count,
    from: shape,
    to: shape,
    expander: z.string(),
    layerMap: z.array(count).nullable(),
    mapHash: z.string(),
    seconds: real,
  }),
  z.object({
    event: z.literal("evaluation"),
    ...moment,
    loss: real,
    depth: count,
    targetDepth: count.optional(),
    targetLoss: real.optional(),
    flops: real,
    tokens: count,
    seconds: real,
  }),
  z.object({ event: z.literal("checkpoint"), ...moment, path: z.string() }),
  z.object({ event: z.literal("diverged"), ...moment, loss: real.optional(), gradientNorm: real.optional() }),
  z.object({ event: z.literal("interrupted"), ...moment }),
  z.object({
    event: z.literal("end"),
    ...moment,
    finalTrainLoss: real.nullable(),
    finalEvalLoss: real.nullable(),
    flops: real,
    seconds: real,
    tokensPerSecond: real,
  }),
]);
