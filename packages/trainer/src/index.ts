export type { AdamWOptions } from "./adamw-optimizer.js";
export { adamWOptimizer } from "./adamw-optimizer.js";
export type { BenchmarkResult, BenchmarkSetup } from "./benchmark.js";
export { benchmarkStep } from "./benchmark.js";
export type { EvaluationInput, EvaluationResult } from "./evaluation.js";
export { evaluate } from "./evaluation.js";
export type { GenerationOptions } from "./generate.js";
export { generate } from "./generate.js";
export { rehearseGrowth } from "./growth-plan.js";
export type { Decay, WarmupOptions } from "./learning-rate.js";
export {
  cosineDecay,
  learningRateSchedule,
  linearDecay,
  noDecay,
  squareRootDecay,
} from "./learning-rate.js";
export {
  loadTrainingParameters,
  loadWeights,
  momentsToWrite,
  recogniseModel,
  weightsToWrite,
} from "./parameters.js";
export { checkPrecision } from "./precision.js";
export type { ProbeModel, ProbeResult, ProbeTraining } from "./probe.js";
export { probeBatch } from "./probe.js";
export type { ProbeBatch } from "./probe-batch.js";
export { parseProbeBatch } from "./probe-batch.js";
export type { StepProfile } from "./profile/step-profile.js";
export { train } from "./train.js";
export { trainerPlugin } from "./trainer-plugin.js";
export type { TrainingJournal } from "./training-journal.js";
export type {
  CheckpointSetup,
  EvaluationSetup,
  GrowthRecord,
  StartSetup,
  TrainingProgress,
  TrainingResult,
  TrainingSetup,
  TrainingStrategies,
} from "./training-setup.js";
export { spentOnCheckpoint } from "./training-state.js";
export type { StepResult, TrainableModel, TrainingSteps } from "./training-steps.js";
export { trainingSteps } from "./training-steps.js";
