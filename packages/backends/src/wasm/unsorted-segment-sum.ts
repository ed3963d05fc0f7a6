import * as tf from "@tensorflow/tfjs";
import type { BackendWasm } from "@tensorflow/tfjs-backend-wasm";
import type { KernelFunc, TensorInfo } from "@tensorflow/tfjs-core";

/**
 * Gives the WebAssembly engine the kernel `UnsortedSegmentSum`, which it lacks: the gradient of `tf.gather`, and with it
 * of every embedding. Rows are added in their order, so that the sums are the same in every run.
 */
export function registerUnsortedSegmentSum(): void {
  if (tf.getKernel("UnsortedSegmentSum", "wasm") !== undefined) return;
  tf.registerKernel({ kernelName: "UnsortedSegmentSum", backendName: "wasm", kernelFunc: segmentSum });
}

/**
 * Sums the rows of `x` by segment: `[rows, …]`, int32 `[rows]` → `[numSegments, …]`. Rows whose segment is none of
 * 0..numSegments-1 are left out, as TensorFlow.js's own engine does.
 */
const segmentSum: KernelFunc = ({ inputs, backend, attrs }) => {
  const { x, segmentIds } = inputs as { x: TensorInfo; segmentIds: TensorInfo };
  const segments = Number(attrs?.numSegments);
  const wasm = backend as unknown as BackendWasm; // the kernel is registered for this engine alone
  const output = wasm.makeOutput([segments, ...x.shape.slice(1)], x.dtype);
  // views are taken after the allocation: it may move the engine's whole memory
  const sums = wasm.typedArrayFromHeap(output).fill(0);
  const values = wasm.typedArrayFromHeap(x);
  const ids = wasm.typedArrayFromHeap(segmentIds);
  const width = ids.length === 0 ? 0 : values.length / ids.length;
  for (let row = 0; row < ids.length; row++) {
    const segment = ids[row] ?? -1;
    if (segment < 0 || segment >= segments) continue;
    const [from, to] = [row * width, segment * width];
    for (let column = 0; column < width; column++)
      sums[to + column] = (sums[to + column] ?? 0) + (values[from + column] ?? 0);
  }
  return output;
};
