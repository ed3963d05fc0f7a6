/**
 * The steps to the TensorFlow.js backend `libtorch`, one by one. Importing this entry does nothing by itself: `findTorch`
 * finds a PyTorch, `buildAddon` compiles the addon for it once, `loadLibtorch` loads it and registers the backend.
 * `registerLibtorch` does all three, as the main entry does when it is imported.
 *
 * @packageDocumentation
 */
export {
  AddonBuildError,
  type BuildAddonOptions,
  type BuiltAddon,
  buildAddon,
  buildAddonSync,
  findAddon,
} from "./build-addon.js";
export { DeviceError, type DeviceFailure, type DeviceMemory } from "./device.js";
export { findTorch, type Torch, TorchNotFoundError } from "./find-torch.js";
export {
  BACKEND_NAME,
  deviceMemory,
  type LibtorchInfo,
  type LoadLibtorchOptions,
  libtorchInfo,
  loadLibtorch,
  loadShapes,
  releaseCachedMemory,
  resetPeakMemory,
  synchronize,
  withoutSynchronization,
} from "./load.js";
export { type Environment, registerLibtorch } from "./register.js";
