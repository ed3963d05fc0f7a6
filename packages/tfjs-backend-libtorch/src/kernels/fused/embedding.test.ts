import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { valuesOf } from "../../../test/float64.js";
import { runKernels, useLibtorch } from "../../../test/libtorch.js";

describe("EspalierEmbeddingGrad", () => {
  beforeAll(() => useLibtorch());

  it("adds up the rows of each entry and leaves the others zero", () => {
    const dy = tf.tensor2d([1, 2, 10, 20, 100, 200], [3, 2]);
    const indices = tf.tensor1d([3, 0, 3], "int32");
    const [gradient] = runKernels("EspalierEmbeddingGrad", { dy, indices }, { vocabulary: 4 });
    expect(gradient!.shape).toEqual([4, 2]);
    expect(valuesOf(gradient!)).toEqual([10, 20, 0, 0, 0, 0, 101, 202]);
  });

  it("is what TensorFlow.js's own gradient of gather gives", () => {
    const table = tf.randomNormal([7, 3]);
    const indices = tf.tensor1d([6, 0, 6, 2, 2, 2], "int32");
    const dy = tf.randomNormal([6, 3]);
    const own = tf.grad((given) => tf.gather(given, indices))(table, dy);
    const [fused] = runKernels("EspalierEmbeddingGrad", { dy, indices }, { vocabulary: 7 });
    expect(valuesOf(fused!.sub(own).abs().max())[0]).toBeLessThan(1e-6);
  });
});
