export { BackgroundDelivery } from "./background-delivery.js";
export { journalFiles, RunJournal, readEvents, readMetrics } from "./journal.js";
export type { DeliveryResult, MlflowDeliveryOptions } from "./mlflow-delivery.js";
export { MlflowDelivery } from "./mlflow-delivery.js";
export type { ArtifactFile, CheckpointArtifacts, MlflowRunDescription } from "./mlflow-description.js";
export type {
  CheckpointEvent,
  DivergedEvent,
  EndEvent,
  EvaluationEvent,
  GrowthEvent,
  InterruptedEvent,
  ResumeEvent,
  RunEvent,
  StartEvent,
  StepMetrics,
} from "./records.js";
export type { EndingEvent } from "./run-ending.js";
export { endingOf } from "./run-ending.js";
export { sourceTags, userName } from "./source-tags.js";
export type { TrackingTarget } from "./tracking-target.js";
export { trackingTarget } from "./tracking-target.js";
