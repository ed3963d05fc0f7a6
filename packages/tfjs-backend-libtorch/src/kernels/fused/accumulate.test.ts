import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { valuesOf } from "../../../test/float64.js";
import { runKernels, useLibtorch } from "../../../test/libtorch.js";
import type { NativeTensor } from "../../addon.js";
import { aten } from "../../aten.js";
import type { LibtorchBackend } from "../../backend.js";

describe("EspalierAccumulate", () => {
  beforeAll(() => useLibtorch());

  it("adds in place, and to no one else who shares the memory", () => {
    const sum = tf.tensor2d([1, 2, 3, 4], [2, 2]);
    const [shared, view] = [sum.reshape([4]), sum.slice([1, 0], [1, 2])];
    const term = tf.tensor2d([10, 20, 30, 40], [2, 2]);
    runKernels("EspalierAccumulate", { sum, term }, {});
    runKernels("EspalierAccumulate", { sum, term }, {});
    expect(valuesOf(sum)).toEqual([21, 42, 63, 84]);
    expect([valuesOf(shared), valuesOf(view), valuesOf(term)]).toEqual([
      [1, 2, 3, 4],
      [3, 4],
      [10, 20, 30, 40],
    ]);
    const handles = () => (tf.memory() as unknown as { nativeHandles: number }).nativeHandles;
    const before = handles();
    runKernels("EspalierAccumulate", { sum, term }, {});
    expect(handles()).toBe(before);
  });

  it("keeps what a sum in bf16 would lose", () => {
    const backend = tf.backend() as LibtorchBackend;
    const ones = tf.ones([3]);
    const { tensor } = backend.stored(ones.dataId);
    const half = backend.call(aten("to.dtype"), [tensor, "bfloat16"]) as NativeTensor;
    const sum = tf.engine().makeTensorFromTensorInfo(backend.adopt(half, "float32"), backend);
    const term = tf.fill([3], 2 ** -12);
    runKernels("EspalierAccumulate", { sum, term }, {});
    expect(valuesOf(sum)).toEqual(Array(3).fill(1 + 2 ** -12));
  });
});
