import type { Tensor } from "@tensorflow/tfjs-core";
import type { RandomStream } from "./random-stream.js";

/** A parameter with its optimizer slots. All tensors are owned by the training state; fields are replaced in place. */
export interface ParameterState {
  weight: Tensor;
  /** Same shape as the weight. */
  firstMoment: Tensor;
  /** Same shape as the weight. */
  secondMoment: Tensor;
  /** float32 scalar: how many updates this parameter has had. */
  stepCount: Tensor;
}

/** Parameters and moments, keyed by name and never by position. */
export type TrainingParameters = Map<string, ParameterState>;

/** One parameter's part of an optimizer step. */
export interface ParameterUpdate {
  readonly name: string;
  readonly state: ParameterState;
  readonly gradient: Tensor;
  /** Whether weight decay applies. */
  readonly decay: boolean;
}

/** Applies gradients. Owns nothing: states are updated in place, gradients stay the caller's. */
export interface Optimizer {
  /** Highest learning rate, which the schedule's factor multiplies. */
  readonly learningRate: number;
  /** @param learningRate the rate of this step */
  update(updates: readonly ParameterUpdate[], learningRate: number): void;
}

/** Where a step lies, in units of the budget (steps, tokens or FLOPs). */
export interface LearningRatePoint {
  readonly unit: "steps" | "tokens" | "flops";
  /** The budget spent at the end of this step: for steps, the step's number from 1. */
  readonly position: number;
  readonly total: number;
  /** The budget spent since the latest growth at the end of this step; null before the first growth. */
  readonly sinceGrowth: number | null;
}

/** The factor on the peak learning rate, as a function of progress. */
export interface LearningRateSchedule {
  factor(point: LearningRatePoint): number;
}

/** What an objective must know of a tokenizer. */
export interface TokenizerInfo {
  readonly vocabSize: number;
  readonly maskToken: number | null;
  readonly padToken: number | null;
  readonly endOfText: number | null;
  /** Tokens that are never masked nor drawn as a random replacement. */
  readonly specialTokens: readonly number[];
}

/** A micro-batch in host memory, ready to be copied to the device. */
export interface PreparedBatch {
  readonly batchSize: number;
  readonly sequenceLength: number;
  /** `[batch · seq]` */
  readonly inputIds: Int32Array;
  /** `[batch · seq]`, 1 for a real token; null where nothing is padded. */
  readonly attentionMask: Float32Array | null;
  /** Flat positions (row · seq + column) that count, ascending. `[counted]` */
  readonly countedPositions: Int32Array;
  /** The token wanted at each counted position. `[counted]` */
  readonly labels: Int32Array;
}

/** What is predicted from what. */
export interface Objective {
  /** Whether it needs a causal model. */
  readonly causal: boolean;
  /** Exactly how many positions of a micro-batch count. */
  countedPositions(batchSize: number, sequenceLength: number): number;
  /**
   * @param tokens `[batch · seq]` packed tokens
   * @param random the micro-step's own masking stream
   */
  prepare(tokens: Int32Array, batchSize: number, sequenceLength: number, random: RandomStream): PreparedBatch;
}

/** Text to train on. */
export interface Corpus {
  /** Hash of everything that decides the documents (names, sizes, content); changes when they do. */
  fingerprint(): Promise<string>;
  /** Documents in a fixed order. */
  documents(): AsyncIterable<string>;
}

/** The two sides of a corpus. */
export type Split = "train" | "validation";

/** Tokenized, packed sequences with random access; every batch is a pure function of its index. */
export interface SequenceData {
  /** Sequences in a split. */
  count(split: Split): number;
  readonly sequenceLength: number;
  /** Content hash of the shards, for the lock. */
  readonly fingerprint: string;
  /**
   * Sequences of micro-batch `index` (from 0, over all epochs) in training order: epoch e is a permutation drawn from
   * `order.fork(e)`.
   *
   * @returns `[batchSize · sequenceLength]`
   */
  trainingBatch(index: number, batchSize: number, order: RandomStream): Int32Array;
  /** Validation sequences `[first, first + batchSize)`, in fixed order. */
  validationBatch(first: number, batchSize: number): Int32Array;
}
