import { findBackendFactory, registerBackend, registerKernel } from "@tensorflow/tfjs";
import { type Addon, openAddon } from "./addon.js";
import { LibtorchBackend } from "./backend.js";
import * as devices from "./device.js";
import { toKernelConfig } from "./kernel.js";
import { kernels } from "./kernels/index.js";
import { registerShapes, SHAPES_BACKEND_NAME } from "./shapes.js";

/** The name under which TensorFlow.js knows the backend. */
export const BACKEND_NAME = "libtorch";

/** Above TensorFlow.js's own backends and tfjs-node: it is the default wherever it was loaded. */
const PRIORITY = 4;

/** How to load the backend. */
export interface LoadLibtorchOptions {
  /** The compiled addon, as `buildAddon` or `findAddon` give it. */
  readonly addonPath: string;
  /** `cpu` (default), `cuda`, `cuda:1`, ... */
  readonly device?: string | undefined;
  /** Threads of one operator on the CPU. Default: libtorch's own choice, one per physical core. */
  readonly threads?: number | undefined;
  /** Reproducible algorithms only, also on a GPU. Default: false. The CPU's are reproducible as they are. */
  readonly deterministic?: boolean | undefined;
}

/** What is loaded, and what it holds. */
export interface LibtorchInfo {
  /** Such as `2.11.0`. */
  readonly torchVersion: string;
  readonly device: string;
  readonly threads: number;
  /** How many of them the addon's own loops use: as many, or 1 where libtorch's OpenMP runtime cannot be called. */
  readonly loopThreads: number;
  /** Native tensors that are alive. Flat over repeated work, or something leaks. */
  readonly handles: number;
  /** Bytes of memory under those tensors; memory that several share counts once. */
  readonly bytes: number;
}

interface Loaded {
  readonly addon: Addon;
  readonly addonPath: string;
  readonly device: string;
}

let loaded: Loaded | null = null;

/**
 * Loads libtorch into this process and registers the TensorFlow.js backend `libtorch` with its kernels. Choose it with
 * `await tf.setBackend("libtorch")`. A second call with the same addon and device changes the threads only.
 *
 * @throws DeviceError when the device cannot be used
 * @throws when the addon or its libtorch cannot be loaded, or another addon or device is loaded already
 */
export function loadLibtorch({
  addonPath,
  device = "cpu",
  threads,
  deterministic = false,
}: LoadLibtorchOptions): void {
  const wanted = device === "cuda" ? "cuda:0" : device;
  if (loaded !== null) {
    if (loaded.addonPath !== addonPath || loaded.device !== wanted) {
      throw new Error(`libtorch is loaded already, from ${loaded.addonPath} for ${loaded.device}`);
    }
    if (threads !== undefined) loaded.addon.setThreads(threads);
    return;
  }
  waitBriefly();
  const addon = openAddon(addonPath);
  if (deterministic) devices.setDeterministic(addon, true);
  devices.openDevice(addon, wanted);
  if (threads !== undefined) addon.setThreads(threads);
  loaded = { addon, addonPath, device: wanted };
  for (const kernel of kernels) registerKernel(toKernelConfig(kernel, BACKEND_NAME));
  registerBackend(BACKEND_NAME, () => new LibtorchBackend(addon, wanted), PRIORITY);
}

/**
 * At the end of an operator GNU's OpenMP lets threads spin, for about a millisecond, until the slowest is done. Where
 * another process has the core meanwhile, every operator then costs a time slice. A tenth of that spinning costs 2 % of a
 * step on a quiet machine and makes it half as fast again on a busy one (GPT-2 12×64, two threads on two cores, beside two
 * busy processes). Read once, when libtorch is loaded.
 */
function waitBriefly(): void {
  if (process.env.OMP_WAIT_POLICY === undefined) process.env.GOMP_SPINCOUNT ??= "30000";
}

/**
 * @returns what is loaded, or null before `loadLibtorch`
 */
export function libtorchInfo(): LibtorchInfo | null {
  if (loaded === null) return null;
  const { version, threads, loopThreads, handles, bytes } = loaded.addon.info();
  return { torchVersion: version, device: loaded.device, threads, loopThreads, handles, bytes };
}

/**
 * Memory of the loaded device by PyTorch's caching allocator.
 *
 * @returns null on the CPU, before `loadLibtorch`, and where this PyTorch (before 2.9) does not tell
 */
export function deviceMemory(): devices.DeviceMemory | null {
  return loaded === null ? null : devices.deviceMemory(loaded.addon, loaded.device);
}

/** Counts the peak of {@link deviceMemory} from now on. */
export function resetPeakMemory(): void {
  if (loaded !== null) devices.resetPeakMemory(loaded.addon, loaded.device);
}

/** Gives memory that no tensor uses back to the device, after an allocation failed. */
export function releaseCachedMemory(): void {
  if (loaded !== null) devices.releaseCachedMemory(loaded.addon, loaded.device);
}

/** Waits until the loaded device has done everything that was started. */
export function synchronize(): void {
  if (loaded !== null) devices.synchronize(loaded.addon, loaded.device);
}

/**
 * Runs `compute` such that an operator that makes the host wait for the GPU raises an error: what passes has no host
 * synchronisation.
 *
 * @returns what `compute` gives, and whether it was watched (false on the CPU)
 */
export function withoutSynchronization<Result>(compute: () => Result): {
  readonly result: Result;
  readonly watched: boolean;
} {
  return loaded === null
    ? { result: compute(), watched: false }
    : devices.withoutSynchronization(loaded.addon, compute);
}

/**
 * Registers a second backend that computes shapes and dtypes only, as a GPU would be asked for them; see `shapes.ts`.
 *
 * @returns its name, for `tf.setBackend`
 * @throws before `loadLibtorch`
 */
export function loadShapes(): string {
  if (loaded === null) throw new Error("loadLibtorch comes first");
  if (findBackendFactory(SHAPES_BACKEND_NAME) == null) registerShapes(loaded.addon);
  return SHAPES_BACKEND_NAME;
}
