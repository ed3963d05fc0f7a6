import type { DataType, KernelConfig, NamedAttrMap, NamedTensorInfoMap, TensorInfo } from "@tensorflow/tfjs";
import type { AtenArgument, NativeTensor, NativeType } from "./addon.js";
import { type AtenOperator, aten } from "./aten.js";
import type { LibtorchBackend } from "./backend.js";
import { nativeType, toNativeArray } from "./dtypes.js";
import { runOnStrings } from "./strings.js";

const reshape = aten("reshape");
const contiguous = aten("contiguous");
const toType = aten("to.dtype");

/** One call of a kernel: owns every native tensor that the kernel makes, and frees what does not become a result. */
export class Frame {
  private readonly owned: NativeTensor[] = [];

  constructor(
    readonly backend: LibtorchBackend,
    readonly kernelName: string,
  ) {}

  /** The native tensor of an input, in the shape that this call gives it. */
  tensor(info: TensorInfo): NativeTensor {
    const { tensor, shape } = this.backend.stored(info.dataId);
    if (tensor === null) throw new Error(`${this.kernelName}: string tensors are not supported`);
    return sameShape(shape, info.shape) ? tensor : this.call(reshape, tensor, info.shape);
  }

  /** The same, cast to a dtype if it has another one. */
  tensorAs(info: TensorInfo, dtype: DataType): NativeTensor {
    const tensor = this.tensor(info);
    return info.dtype === dtype ? tensor : this.cast(tensor, nativeType(dtype));
  }

  /** The native tensor of an input, row after row in memory. */
  contiguous(info: TensorInfo): NativeTensor {
    const tensor = this.tensor(info);
    return this.backend.addon.isContiguous(tensor) ? tensor : this.call(contiguous, tensor);
  }

  /** A tensor with another element type. */
  cast(tensor: NativeTensor, type: NativeType): NativeTensor {
    return this.call(toType, tensor, type);
  }

  /** Calls an operator with one tensor as its result. */
  call(operator: AtenOperator, ...values: AtenArgument[]): NativeTensor {
    const result = this.backend.call(operator, values) as NativeTensor;
    this.owned.push(result);
    return result;
  }

  /** Calls an operator with several results, or a list; those that the operator leaves undefined are null. */
  callList(operator: AtenOperator, ...values: AtenArgument[]): (NativeTensor | null)[] {
    const results = this.backend.call(operator, values) as (NativeTensor | null)[];
    for (const result of results) if (result !== null) this.owned.push(result);
    return results;
  }

  /** Calls an operator that only changes its inputs. */
  callInPlace(operator: AtenOperator, ...values: AtenArgument[]): void {
    this.backend.call(operator, values);
  }

  /** A tensor of values given in JavaScript. */
  constant(
    values: ArrayLike<number | boolean>,
    shape: readonly number[],
    dtype: "float32" | "int32" | "bool",
  ): NativeTensor {
    const { addon, device } = this.backend;
    const tensor = addon.fromData(toNativeArray(values, dtype), shape, dtype, device);
    this.owned.push(tensor);
    return tensor;
  }

  /** Hands a native tensor out as a result. An input's own tensor gets a second handle. */
  output(tensor: NativeTensor, dtype: DataType): TensorInfo {
    const position = this.owned.lastIndexOf(tensor);
    if (position < 0) return this.backend.adopt(this.backend.addon.alias(tensor), dtype);
    this.owned.splice(position, 1);
    return this.backend.adopt(tensor, dtype);
  }

  /** Takes a tensor out of this call's ownership: whoever asks frees it. */
  release(tensor: NativeTensor): NativeTensor {
    const position = this.owned.lastIndexOf(tensor);
    if (position < 0) return this.backend.addon.alias(tensor);
    this.owned.splice(position, 1);
    return tensor;
  }

  /** The input's own data under another shape, as `Identity` and `Reshape` give it: nothing is copied. */
  share(info: TensorInfo, shape: number[] = info.shape, dtype: DataType = info.dtype): TensorInfo {
    this.backend.incRef(info.dataId);
    return { dataId: info.dataId, shape, dtype };
  }

  /** Frees what the call made and did not hand out. */
  close(): void {
    for (const tensor of this.owned) this.backend.addon.free(tensor);
    this.owned.length = 0;
  }
}

/** Whether two shapes are equal. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let axis = 0; axis < a.length; axis++) if (a[axis] !== b[axis]) return false;
  return true;
}

/** A kernel of this backend, before it is registered. */
export interface Kernel {
  readonly name: string;
  readonly run: (frame: Frame, inputs: NamedTensorInfoMap, attrs: NamedAttrMap) => TensorInfo | TensorInfo[];
}

/** A kernel's inputs without the `undefined` that TensorFlow.js's types leave open for those that are required. */
export type Given<Inputs> = { [Name in keyof Inputs]: Exclude<Inputs[Name], undefined> };

/**
 * Defines a kernel.
 *
 * @typeParam Inputs - the kernel's tensors by name
 * @typeParam Attributes - its other arguments
 * @param movesData - whether it only copies elements around, and so can work on string tensors, too
 */
export function kernel<Inputs, Attributes = Record<string, never>>(
  name: string,
  run: (frame: Frame, inputs: Given<Inputs>, attrs: Attributes) => TensorInfo | TensorInfo[],
  { movesData = false }: { movesData?: boolean } = {},
): Kernel {
  const typed = run as unknown as Kernel["run"];
  if (!movesData) return { name, run: typed };
  return {
    name,
    run: (frame, inputs, attrs) => runOnStrings(frame, inputs, (given) => typed(frame, given, attrs)),
  };
}

/** The kernel as TensorFlow.js registers it. */
export function toKernelConfig({ name, run }: Kernel, backendName: string): KernelConfig {
  return {
    kernelName: name,
    backendName,
    kernelFunc: ({ inputs, attrs, backend }) => {
      const frame = new Frame(backend as LibtorchBackend, name);
      const { profiler } = frame.backend;
      const outer = profiler.enter(name);
      try {
        return run(frame, inputs, attrs ?? {});
      } finally {
        frame.close();
        profiler.leave(outer);
      }
    },
  };
}
