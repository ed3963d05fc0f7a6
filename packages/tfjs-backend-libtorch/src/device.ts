import type { Addon, AtenArgument, AtenResult } from "./addon.js";
import { ownOperator } from "./aten.js";

/** Why a device cannot be used. */
export type DeviceFailure =
  /** This PyTorch was built without the device. */
  | "not-in-build"
  /** A library that PyTorch's part for the device needs is not installed. */
  | "missing-library"
  | "no-driver"
  | "driver-too-old"
  /** A driver, but no device that this process may use. */
  | "none"
  /** Fewer devices than the index asks for. */
  | "index"
  | "unknown";

/** The device cannot be used; the message says what PyTorch said. */
export class DeviceError extends Error {
  override readonly name = "DeviceError";

  constructor(
    readonly reason: DeviceFailure,
    message: string,
    /** The newest CUDA version that the driver takes, `12.2`; where that is the reason. */
    readonly driverCuda: string | null = null,
    options: ErrorOptions = {},
  ) {
    super(message, options);
  }
}

const operators = {
  count: ownOperator("device_count"),
  synchronize: ownOperator("synchronize"),
  memory: ownOperator("memory_statistics"),
  resetPeak: ownOperator("reset_peak_memory"),
  release: ownOperator("release_cached_memory"),
  deterministic: ownOperator("set_deterministic"),
  forbidSynchronization: ownOperator("forbid_synchronization"),
};

function call(addon: Addon, name: keyof typeof operators, ...values: AtenArgument[]): AtenResult {
  return addon.call(operators[name].indexIn(addon), values);
}

/**
 * Loads what a device needs and readies it for use.
 *
 * @param device `cpu` or `cuda:<index>`
 * @throws DeviceError when it cannot be used
 */
export function openDevice(addon: Addon, device: string): void {
  try {
    // Its kernels register themselves as it is loaded; the name is looked up beside the libtorch that is linked.
    if (device.startsWith("cuda")) addon.loadLibrary("libtorch_cuda.so");
    addon.useDevice(device);
  } catch (error) {
    throw explainDevice(device, error);
  }
  if (!device.startsWith("cuda")) return;
  const count = call(addon, "count", device) as number;
  const index = Number(device.split(":")[1] ?? 0);
  if (index < count) return;
  const there = count === 1 ? "there is only cuda:0" : `there are cuda:0 to cuda:${count - 1}`;
  throw new DeviceError("index", `${device}: ${there}`);
}

/** What PyTorch said of a device that it could not ready, by its reason. */
export function explainDevice(device: string, error: unknown): DeviceError {
  const said = error instanceof Error ? error.message : String(error);
  const failed = (reason: DeviceFailure, driverCuda: string | null = null) =>
    new DeviceError(reason, `${device}: ${said}`, driverCuda, { cause: error });
  if (/libtorch_cuda\.so: cannot open shared object/.test(said)) return failed("not-in-build");
  if (/cannot open shared object|undefined symbol|image not found/.test(said)) {
    return failed("missing-library");
  }
  const old = /driver on your system is too old \(found version (\d+)\)/.exec(said);
  if (old) {
    // CUDA writes 12.2 as 12020.
    const version = Number(old[1]);
    return failed("driver-too-old", `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`);
  }
  if (/driver version is insufficient/.test(said)) return failed("driver-too-old");
  if (/no NVIDIA driver/i.test(said)) return failed("no-driver");
  if (/No CUDA GPUs|might not have a CUDA gpu|no CUDA-capable device/i.test(said)) return failed("none");
  return failed("unknown");
}

/** How many NVIDIA GPUs this process may use; 0 where PyTorch's part for them is not loaded. */
export function gpuCount(addon: Addon): number {
  return call(addon, "count", "cuda") as number;
}

/** Memory of a device as PyTorch's caching allocator counts it, in bytes. */
export interface DeviceMemory {
  /** In tensors now. */
  readonly allocated: number;
  /** The most in tensors since the peak was reset. */
  readonly peak: number;
  /** What the allocator holds of the device, in tensors or kept for the next ones. */
  readonly reserved: number;
}

/**
 * @returns null on the CPU, and where this PyTorch (before 2.9) does not tell
 */
export function deviceMemory(addon: Addon, device: string): DeviceMemory | null {
  if (device === "cpu") return null;
  const [allocated, peak, reserved] = call(addon, "memory", device) as [number, number, number];
  return peak < 0 ? null : { allocated, peak, reserved };
}

/** Counts {@link DeviceMemory.peak} from now on. */
export function resetPeakMemory(addon: Addon, device: string): void {
  call(addon, "resetPeak", device);
}

/** Gives memory that no tensor uses back to the device, after an allocation failed. */
export function releaseCachedMemory(addon: Addon, device: string): void {
  call(addon, "release", device);
}

/** Waits until the device has done everything that was started. */
export function synchronize(addon: Addon, device: string): void {
  call(addon, "synchronize", device);
}

/**
 * Chooses reproducible algorithms only. An operator that has none then raises an error that names it.
 * To be called before the device computes anything: cuBLAS reads its variable when it is first used.
 */
export function setDeterministic(addon: Addon, on: boolean): void {
  if (on) process.env.CUBLAS_WORKSPACE_CONFIG ??= ":4096:8";
  call(addon, "deterministic", on);
}

/**
 * Runs `compute` such that an operator that makes the host wait for the GPU raises an error ("called a synchronizing CUDA
 * operation"). What passes has no host synchronisation.
 *
 * @returns what `compute` gives, and whether this PyTorch could watch at all
 */
export function withoutSynchronization<Result>(
  addon: Addon,
  compute: () => Result,
): { readonly result: Result; readonly watched: boolean } {
  const watched = call(addon, "forbidSynchronization", true) as boolean;
  try {
    return { result: compute(), watched };
  } finally {
    call(addon, "forbidSynchronization", false);
  }
}
