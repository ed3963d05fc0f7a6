import { createRequire } from "node:module";

declare const nativeTensor: unique symbol;

/** A tensor of libtorch: a slot of the addon's table and the slot's generation. Valid until it is freed. */
export type NativeTensor = number & { readonly [nativeTensor]: true };

/** What an ATen operator takes, by its schema: a tensor, a scalar, a dtype's name, a list; `undefined` = the default. */
export type AtenArgument = number | boolean | string | null | undefined | readonly AtenArgument[];

/** What an ATen operator gives. In-place results, which are only the mutated inputs again, are left out. */
export type AtenResult = NativeTensor | number | boolean | null | AtenResult[];

/** The typed arrays whose elements libtorch can read and fill. */
export type NativeArray = Float32Array | Int32Array | Uint8Array;

/** The dtypes that this backend creates tensors with. */
export type NativeType = "float32" | "bfloat16" | "int32" | "int64" | "bool" | "complex64";

/** The functions of `native/addon.cc`. Each throws an Error that names the operator. */
export interface Addon {
  operator(name: string, overload: string): number;
  call(index: number, values: readonly AtenArgument[]): AtenResult;
  fromData(values: NativeArray, shape: readonly number[], type: NativeType, device: string): NativeTensor;
  toData(tensor: NativeTensor, values: NativeArray): void;
  alias(tensor: NativeTensor): NativeTensor;
  free(tensor: NativeTensor): void;
  /** The shape, then the dtype as ATen's number. */
  describe(tensor: NativeTensor): number[];
  isContiguous(tensor: NativeTensor): boolean;
  /** How many live handles look into the same memory, this one included. */
  storageHandles(tensor: NativeTensor): number;
  loadLibrary(path: string): void;
  useDevice(device: string): void;
  setThreads(count: number): void;
  /** `devicePeakBytes` is below 0 where the device's allocator does not say, as on a CPU. */
  info(): {
    version: string;
    threads: number;
    /** How many of them a loop of the addon's own ran on. */
    loopThreads: number;
    handles: number;
    bytes: number;
    devicePeakBytes: number;
  };
  /** Notes every call from here on: 1 = timing, 2 = tracing. Drops what was noted before. */
  startRecording(detail: 1 | 2): void;
  /** The kernel that the calls from here on belong to, by a number of the caller's; -1 for none. */
  recordKernel(label: number): void;
  /** The part of the work that begins here, by a number of the caller's; -1 for none. */
  recordPhase(label: number): void;
  stopRecording(): NativeRecording;
}

/** What the addon noted, as rows of numbers: `native/recording.h` has their fields. */
export interface NativeRecording {
  readonly seconds: number;
  readonly calls: Float64Array;
  readonly nested: Float64Array;
  readonly arguments: Float64Array;
  /** The names of nested operators. */
  readonly names: readonly string[];
  /** The names of operators, by their index. */
  readonly operators: readonly string[];
}

/**
 * Loads a compiled addon, and with it libtorch, into this process.
 *
 * @param path of the `.node` file that `buildAddon` made
 * @throws when the file or the libtorch it was linked against cannot be loaded
 */
export function openAddon(path: string): Addon {
  return createRequire(import.meta.url)(path) as Addon;
}
