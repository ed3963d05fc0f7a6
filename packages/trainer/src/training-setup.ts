import type {
  ComputeOptions,
  DepthSampler,
  Expander,
  GrowthSchedule,
  Json,
  LayerMap,
  LayerMapping,
  LearningRateSchedule,
  ModelConfig,
  ModelFamily,
  ModelShape,
  Objective,
  Optimizer,
  RandomStream,
  SequenceData,
  TrainingBudget,
} from "@espalier/core";
import type { TrainingJournal } from "./training-journal.js";

/** The strategies of one run, made by the composition root. */
export interface TrainingStrategies {
  readonly schedule: GrowthSchedule<Json>;
  readonly sampler: DepthSampler<Json>;
  readonly expander: Expander;
  /** Which unique layer each executed layer uses within a step. */
  readonly sharing: LayerMapping;
  readonly learningRate: LearningRateSchedule;
  readonly optimizer: Optimizer;
  readonly objective: Objective;
}

/** Everything that a run needs; the trainer reads nothing else. */
export interface TrainingSetup extends ComputeOptions {
  readonly family: ModelFamily;
  /** The model that training ends at; the schedule says what it starts from. */
  readonly config: ModelConfig;
  readonly strategies: TrainingStrategies;
  readonly data: SequenceData;
  /** The seed that `random` was made from, for the checkpoint. */
  readonly seed: number;
  /** The root stream of the seed. */
  readonly random: RandomStream;
  readonly budget: TrainingBudget;
  /** Sequences in a micro-step. */
  readonly batchSize: number;
  /** Micro-steps in an optimizer step. */
  readonly gradientAccumulation: number;
  /** Largest global gradient norm; null clips nothing. */
  readonly gradientClipNorm: number | null;
  readonly evaluation: EvaluationSetup;
  readonly checkpoints: CheckpointSetup;
  /** The run's folder; checkpoints go to its `checkpoints/`. */
  readonly folder: string;
  readonly journal: TrainingJournal;
  /** Hash of the resolved definition: a checkpoint of another one is not resumed. */
  readonly definitionHash: string;
  /** Content of the `tokenizer.json` that checkpoints carry. */
  readonly tokenizerJson?: string;
  /** Parameters to start from instead of fresh ones. */
  readonly start?: StartSetup;
  /** Continue from the folder's last complete checkpoint; from the beginning where there is none. */
  readonly resume: boolean;
  /** When it is aborted the current step is finished, a checkpoint written, and training returns. */
  readonly signal?: AbortSignal;
  /** FLOPs that the whole run is predicted to take, for the time left; by the share of the budget without it. */
  readonly expectedFlops?: number;
  readonly onProgress?: (progress: TrainingProgress) => void;
}

/** When held-out text is looked at. There is always an evaluation after the last step. */
export interface EvaluationSetup {
  /** Optimizer steps between evaluations; 0 evaluates at the end only. */
  readonly every: number;
  /** Batches of `batchSize` sequences; fewer where the split is smaller. */
  readonly batches: number;
}

/** When checkpoints are written. The last step always gets one. */
export interface CheckpointSetup {
  /** Optimizer steps between checkpoints; 0 writes the last only. */
  readonly every: number;
  /** How many of the newest stay. */
  readonly keep: number;
}

/** A checkpoint to start from. */
export interface StartSetup {
  /** A run folder (its last complete step), a step folder, or a Hugging Face folder. */
  readonly path: string;
  /** Whether optimizer moments are taken over, where the checkpoint has them (default: true). */
  readonly moments?: boolean;
}

/** What a live line shows; told after every optimizer step. */
export interface TrainingProgress {
  /** Completed optimizer steps. */
  readonly step: number;
  /** Optimizer steps in the budget, where that is known. */
  readonly totalSteps: number | null;
  /** Share of the budget that is spent, 0..1. */
  readonly fraction: number;
  readonly stage: number;
  readonly uniqueLayers: number;
  /** Executed layers of the step's last micro-step. */
  readonly depth: number;
  /** The latest loss that was read back (at most a few steps old); null before the first. */
  readonly loss: number | null;
  /** The latest evaluation loss. */
  readonly evaluationLoss: number | null;
  readonly learningRate: number;
  readonly flops: number;
  readonly tokens: number;
  /** Seconds of training so far, without evaluation and checkpoints. */
  readonly seconds: number;
  readonly tokensPerSecond: number;
  /** Seconds left at the current speed. */
  readonly secondsLeft: number | null;
}

/** A growth that took place. */
export interface GrowthRecord {
  /** Completed steps when it took place. */
  readonly step: number;
  /** The stage that it began; 0 for the growth from a source's shape to the first stage's. */
  readonly stage: number;
  readonly from: ModelShape;
  readonly to: ModelShape;
  readonly expander: string;
  readonly layerMap: LayerMap | null;
  /** Hash of what the growth map makes (`hashGrowthMap`). */
  readonly mapHash: string;
  readonly seconds: number;
}

/** How a run ended. */
export interface TrainingResult {
  /** Completed optimizer steps. */
  readonly steps: number;
  /** Loss of the last step; null if there was none. */
  readonly finalTrainLoss: number | null;
  /** Evaluation loss at the unique layers after the last step; null if the run was interrupted before. */
  readonly finalEvalLoss: number | null;
  readonly flops: number;
  /** FLOPs that training the source took, its own sources included; 0 without a source, null where it does not say. */
  readonly sourceFlops: number | null;
  readonly tokens: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
  readonly stage: number;
  /** The shape at the end. */
  readonly shape: ModelShape;
  readonly growths: readonly GrowthRecord[];
  /** The last step's folder; null if none was written. */
  readonly checkpoint: string | null;
  /** Whether the signal ended it. */
  readonly interrupted: boolean;
  /** The step that it was resumed from; null if it started from the beginning. */
  readonly resumedFrom: number | null;
}
