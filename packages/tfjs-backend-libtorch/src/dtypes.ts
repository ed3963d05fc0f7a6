import type { DataType } from "@tensorflow/tfjs";
import type { NativeArray, NativeType } from "./addon.js";

/** ATen's numbers of the element types (`c10::ScalarType`), which are part of its stable interface. */
const FLOAT16 = 5;
/** ATen's number of float32. */
export const FLOAT32 = 6;
/** ATen's number of bfloat16. */
export const BFLOAT16 = 15;
const STORED_AS: Readonly<Record<NativeType, readonly number[]>> = {
  // Half precision may live under float32: reading converts.
  float32: [FLOAT32, BFLOAT16, FLOAT16],
  bfloat16: [BFLOAT16],
  int32: [3],
  int64: [4],
  bool: [11],
  complex64: [9],
};

/**
 * The element type in which libtorch stores a TensorFlow.js dtype.
 *
 * @throws for `string`, which libtorch does not have
 */
export function nativeType(dtype: DataType): NativeType {
  if (dtype === "string") throw new Error("libtorch has no string tensors");
  return dtype;
}

/** Whether a tensor whose ATen element type is `code` can be the data of a TensorFlow.js tensor of `dtype`. */
export function isStoredAs(code: number, dtype: NativeType): boolean {
  return STORED_AS[dtype].includes(code);
}

/** An empty array for all values of a tensor; complex values are pairs. */
export function arrayFor(dtype: NativeType, size: number): NativeArray {
  if (dtype === "int32") return new Int32Array(size);
  if (dtype === "bool") return new Uint8Array(size);
  return new Float32Array(dtype === "complex64" ? 2 * size : size);
}

/** The values as the typed array that libtorch copies from; plain arrays and other kinds are converted. */
export function toNativeArray(values: ArrayLike<number | boolean>, dtype: NativeType): NativeArray {
  if (dtype === "bool") {
    return values instanceof Uint8Array ? values : Uint8Array.from(values, (value) => (value ? 1 : 0));
  }
  if (dtype === "int32") return values instanceof Int32Array ? values : Int32Array.from(values, Number);
  return values instanceof Float32Array ? values : Float32Array.from(values, Number);
}
