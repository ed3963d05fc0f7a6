export type { Backend, Capability, Finding, LoadedDetails, LoadOptions, Log } from "./backend.js";
export { addonFolder, projectFolder } from "./folders.js";
export { BACKEND_NAMES } from "./list.js";
export { type BackendRequest, type LoadedBackend, loadBackend } from "./load-backend.js";
export { type Gpu, type MachineFacts, machineFacts } from "./machine.js";
export { MissingPiece } from "./missing-piece.js";
export { type BackendReport, reportBackends } from "./report-backends.js";
export { type SetupFailure, type SetupResult, setupBackend } from "./setup-backend.js";
export type { ThreadChoice } from "./threads.js";
