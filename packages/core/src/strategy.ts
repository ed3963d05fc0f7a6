import type { GrowthMap } from "./growth-map.js";
import type { Json } from "./json.js";
import type { ModelFamily } from "./model-family.js";
import type { RandomStream } from "./random-stream.js";
import type { ModelShape } from "./shape.js";

/** The only clock a strategy may read. */
export interface Progress {
  /** Optimizer steps completed. */
  readonly step: number;
  /** Tokens seen by completed steps. */
  readonly tokens: number;
  /** FLOPs spent by completed steps. */
  readonly flops: number;
  /** Index of the current stage, from 0. */
  readonly stage: number;
  /** Share of the budget that is spent, 0..1. */
  readonly fraction: number;
  /** The latest evaluation loss, if there was one. */
  readonly evaluationLoss: number | null;
}

/** What a run may spend; exactly one unit is the limit. */
export interface TrainingBudget {
  readonly unit: "steps" | "tokens" | "flops";
  readonly amount: number;
  /** Optimizer steps in the budget, where that is known before training (units steps and tokens). */
  readonly steps: number | null;
}

/**
 * A pure transition with JSON memory. The trainer holds what a strategy remembers and saves it in the checkpoint, so a
 * hidden counter cannot break a resume; randomness is an argument.
 */
export interface Strategy<Input, Output, Memory extends Json = null> {
  init(): Memory;
  next(memory: Memory, input: Input, random: RandomStream): readonly [Output, Memory];
}

/** What a depth sampler may look at. `current.depth` is the number of unique layers. */
export interface DepthInput {
  readonly progress: Progress;
  readonly current: ModelShape;
  readonly target: ModelShape;
}

/** How many layers this micro-step executes, and which of them are updated. */
export interface StepDepth {
  readonly executedLayers: number;
  /** `topLayers: n` updates the n topmost executed layers and the head only (two-stage bert2BERT, MSLT). */
  readonly update: "all" | { readonly topLayers: number };
}

/** How deep is the network that runs in this micro-step? */
export interface DepthSampler<Memory extends Json = null> extends Strategy<DepthInput, StepDepth, Memory> {
  /** P(executed depth = d), if the next draw were made now. Sums to 1. */
  distribution(memory: Memory, input: DepthInput): ReadonlyMap<number, number>;
  /**
   * What a micro-step of that depth would update, if it were drawn now; needed only where that is not everything, so that
   * a plan counts the FLOPs of what is not differentiated.
   */
  update?(memory: Memory, input: DepthInput, executedLayers: number): StepDepth["update"];
}

/** What a growth schedule may look at. */
export interface GrowthInput {
  readonly progress: Progress;
  readonly current: ModelShape;
  readonly target: ModelShape;
  readonly budget: TrainingBudget;
}

/** A stretch of training at one shape. */
export interface GrowthStage {
  readonly index: number;
  readonly shape: ModelShape;
  /** Share of the budget at which it starts, 0..1. */
  readonly at: number;
  /** Completed optimizer steps when it starts, where the budget gives that in advance. */
  readonly firstStep: number | null;
}

/**
 * When does the model grow, and to what shape? Asked before each optimizer step; answers with the shape to grow to now,
 * or null.
 */
export interface GrowthSchedule<Memory extends Json = null>
  extends Strategy<GrowthInput, ModelShape | null, Memory> {
  /** The shape that training starts from. */
  initial(target: ModelShape): ModelShape;
  /**
   * The stages, where they are known in advance.
   *
   * @throws UsageError if they cannot be reached within the budget or do not end at the target
   */
  plan(budget: TrainingBudget, target: ModelShape): readonly GrowthStage[] | "adaptive";
}

/** How do new parameters come from old ones? Touches no tensor: it answers with a growth map. */
export interface Expander {
  /** A claim; the conformance suite measures it. */
  readonly preserves: "function" | "nothing";
  /** The name of the layer mapping that sharing within a step uses by default. */
  readonly layerMapping: string;
  plan(from: ModelShape, to: ModelShape, family: ModelFamily, random: RandomStream): GrowthMap;
}

/**
 * How does a model grow in width? As an {@link Expander}, from a shape to one of the same depth; a depth operator composes
 * its own map with this one (`composeGrowthMaps`).
 */
export interface WidthOperator {
  /** A claim, for growths at which every unit is copied equally often; the conformance suite measures it. */
  readonly preserves: "function" | "nothing";
  plan(from: ModelShape, to: ModelShape, family: ModelFamily, random: RandomStream): GrowthMap;
}
