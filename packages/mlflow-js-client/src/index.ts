export type {
  Experiment,
  LifecycleStage,
  LoggedModel,
  Page,
  Run,
  RunStatus,
  StoredDatasetInput,
  StoredMetric,
} from "./answers.js";
export type { Artifact, ArtifactContent, ArtifactPlace, MlflowArtifacts } from "./artifacts.js";
export type { Batch, BatchRequest } from "./batch.js";
export { splitBatch } from "./batch.js";
export type { NewRun, RunChanges, RunSearch, View } from "./client.js";
export { MlflowClient } from "./client.js";
export type { ConnectionOptions } from "./connection.js";
export { connectionFromEnvironment, credentialsFromEnvironment } from "./connection.js";
export type { DatasetInput } from "./datasets.js";
export {
  MlflowAlreadyExistsError,
  MlflowApiError,
  MlflowAuthenticationError,
  MlflowConnectionError,
  MlflowError,
  MlflowInputError,
  MlflowNotFoundError,
  MlflowResponseError,
} from "./errors.js";
export { tagEquals } from "./filter.js";
export { limits } from "./limits.js";
export type { MlflowModels, NewModel } from "./models.js";
export type { CallOptions } from "./transport.js";
export type { Metric, Param, Tag } from "./validation.js";
export { checkKey, isValidKey } from "./validation.js";
