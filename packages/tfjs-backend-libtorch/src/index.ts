/**
 * A TensorFlow.js backend whose kernels are PyTorch's ATen operators.
 *
 * Importing this entry does nothing by itself: `findTorch` finds a PyTorch, `buildAddon` compiles the addon for it once,
 * `loadLibtorch` loads it and registers the backend. The entry `./register` does all three for what is there already.
 *
 * @packageDocumentation
 */
export {
  AddonBuildError,
  type BuildAddonOptions,
  type BuiltAddon,
  buildAddon,
  findAddon,
} from "./build-addon.js";
export { findTorch, type Torch, TorchNotFoundError } from "./find-torch.js";
export {
  BACKEND_NAME,
  type LibtorchInfo,
  type LoadLibtorchOptions,
  libtorchInfo,
  loadLibtorch,
} from "./load.js";
