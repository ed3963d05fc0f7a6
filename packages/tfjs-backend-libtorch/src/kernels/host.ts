import type { DataType, TensorInfo, TypedArray } from "@tensorflow/tfjs";
import type { Frame } from "../kernel.js";

/**
 * Values on the host, for kernels whose result's shape depends on their inputs' values: those are loops over small
 * numbers of indices, which no operator of ATen does. (Of a string tensor these are its encoded strings, which
 * TensorFlow.js's own functions for the host take under the same type.)
 */
export function numbers(frame: Frame, info: TensorInfo): TypedArray {
  return frame.backend.readSync(info.dataId) as TypedArray;
}

/** A result that was made on the host. */
export function written(
  frame: Frame,
  data: ArrayLike<number> | readonly Uint8Array[],
  shape: number[],
  dtype: DataType,
): TensorInfo {
  return { dataId: frame.backend.write(data as never, shape, dtype), shape, dtype };
}
