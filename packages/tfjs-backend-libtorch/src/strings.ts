import type { NamedTensorInfoMap, TensorInfo } from "@tensorflow/tfjs";
import type { Frame } from "./kernel.js";

/**
 * Runs a kernel that only moves elements on string tensors: libtorch moves the strings' numbers, and the strings are
 * picked by them afterwards. Without a string among the inputs the kernel runs as it is.
 *
 * @param move - the kernel; it sees int32 tensors in place of the strings
 */
export function runOnStrings(
  frame: Frame,
  inputs: NamedTensorInfoMap,
  move: (inputs: NamedTensorInfoMap) => TensorInfo | TensorInfo[],
): TensorInfo | TensorInfo[] {
  const names = Object.keys(inputs).filter((name) => inputs[name]?.dtype === "string");
  if (names.length === 0) return move(inputs);
  const { backend } = frame;
  const pool: Uint8Array[] = [];
  const numbers: TensorInfo[] = [];
  const replaced: NamedTensorInfoMap = Array.isArray(inputs)
    ? ([...inputs] as unknown as NamedTensorInfoMap)
    : { ...inputs };
  try {
    for (const name of names) {
      const info = inputs[name] as TensorInfo;
      const strings = backend.strings(info.dataId);
      const first = pool.length;
      const dataId = backend.write(
        Int32Array.from(strings, (_, index) => first + index),
        info.shape,
        "int32",
      );
      pool.push(...strings);
      const standIn: TensorInfo = { dataId, shape: info.shape, dtype: "int32" };
      numbers.push(standIn);
      replaced[name] = standIn;
    }
    const moved = move(replaced);
    const pick = (result: TensorInfo): TensorInfo => {
      const picked = Array.from(
        backend.readSync(result.dataId) as Int32Array,
        (index) => pool[index] as Uint8Array,
      );
      backend.disposeData(result.dataId);
      return { dataId: backend.write(picked, result.shape, "string"), shape: result.shape, dtype: "string" };
    };
    return Array.isArray(moved) ? moved.map(pick) : pick(moved);
  } finally {
    for (const { dataId } of numbers) backend.disposeData(dataId);
  }
}

/**
 * Numbers that are ordered and equal as the strings are: comparing strings is comparing those.
 *
 * @param lists - encoded strings
 * @returns a list of numbers for each list of strings
 */
export function stringRanks(lists: readonly (readonly Uint8Array[])[]): Int32Array[] {
  // One character for each byte: UTF-8 sorts by code point, and so does this.
  const keys = lists.map((strings) => strings.map((bytes) => Buffer.from(bytes).toString("latin1")));
  const sorted = [...new Set(keys.flat())].sort();
  const ranks = new Map(sorted.map((key, rank) => [key, rank]));
  return keys.map((list) => Int32Array.from(list, (key) => ranks.get(key) as number));
}
