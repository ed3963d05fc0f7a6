export type { CheckpointContent } from "./checkpoint-folder.js";
export {
  checkpointFiles,
  cleanCheckpoints,
  lastCompleteStep,
  listSteps,
  stepFolder,
  writeCheckpointFolder,
  writeStep,
} from "./checkpoint-folder.js";
export { writeDurably, writeFolderDurably, writeTextDurably } from "./durable-files.js";
export { readFailure, writeFailure } from "./file-failures.js";
export type { ExpectedTensors, TensorMatch } from "./match-tensors.js";
export { matchTensors, refuseUntied } from "./match-tensors.js";
export type { ElementType } from "./number-formats.js";
export type { OpenCheckpoint } from "./open-checkpoint.js";
export { openCheckpoint, readJsonObject } from "./open-checkpoint.js";
export { storedName, storedNames } from "./parameter-names.js";
export type { StoredTensor } from "./safetensors-header.js";
export type { TensorSource } from "./safetensors-reader.js";
export { openSafetensors } from "./safetensors-reader.js";
export type { TensorToWrite } from "./safetensors-writer.js";
export { writeSafetensors } from "./safetensors-writer.js";
export { openShardedSafetensors } from "./sharded-safetensors.js";
