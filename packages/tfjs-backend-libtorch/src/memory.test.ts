import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { normal, runKernels, useLibtorch } from "../test/libtorch.js";
import { libtorchInfo } from "./load.js";

interface Counted {
  tensors: number;
  buffers: number;
  bytes: number;
  handles: number;
  nativeBytes: number;
}

function count(): Counted {
  const { numTensors, numDataBuffers, numBytes } = tf.memory();
  const info = libtorchInfo()!;
  return {
    tensors: numTensors,
    buffers: numDataBuffers,
    bytes: numBytes,
    handles: info.handles,
    nativeBytes: info.bytes,
  };
}

describe("memory", () => {
  beforeAll(() => useLibtorch());

  it("is flat over training steps of a composed model, native handles too", () => {
    const weight = tf.variable(normal([8, 8], 1));
    const table = tf.variable(normal([10, 8], 2));
    const optimizer = tf.train.adam(0.01);
    const ids = tf.tensor2d(
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      [2, 3],
      "int32",
    );
    const step = () => {
      const cost = optimizer.minimize(
        () => {
          const x = tf
            .gather(table, ids)
            .matMul(weight.expandDims(0).tile([2, 1, 1]))
            .transpose([1, 0, 2]);
          const [a, b] = tf.split(x.reshape([6, 8]), 2, 1) as [tf.Tensor, tf.Tensor];
          const mixed = tf
            .concat([tf.softmax(a), tf.tanh(b)], 1)
            .slice([0, 1], [6, 5])
            .pad([
              [1, 1],
              [0, 0],
            ]);
          return mixed.square().mean().asScalar();
        },
        true,
        [weight, table],
      );
      cost?.dispose();
    };
    step();
    const before = count();
    for (let index = 0; index < 20; index++) step();
    expect(count()).toEqual(before);
  });

  it("is flat over every fused kernel", () => {
    const x = normal([6, 4], 1);
    const matrix = normal([4, 4], 2);
    const vector = normal([4], 3);
    const heads = normal([1, 2, 3, 4], 4);
    const labels = tf.tensor1d([0, 1, 2, 3, 0, 1], "int32");
    const state = {
      weight0: tf.variable(normal([4], 5)),
      first0: tf.zeros([4]),
      second0: tf.zeros([4]),
      step0: tf.scalar(0),
    };
    const step = () =>
      tf.tidy(() => {
        const layout = { weightLayout: "out_in" };
        runKernels("EspalierLinear", { x, weight: matrix, bias: vector }, layout);
        runKernels("EspalierLinearGrad", { dy: x, x, weight: matrix }, { ...layout, hasBias: true });
        const [, mean, rstd] = runKernels(
          "EspalierLayerNorm",
          { x, gain: vector, bias: vector },
          { epsilon: 1e-5 },
        );
        runKernels(
          "EspalierLayerNormGrad",
          { dy: x, x, gain: vector, bias: vector, mean: mean!, rstd: rstd! },
          { epsilon: 1e-5 },
        );
        runKernels("EspalierGelu", { x }, { approximate: "tanh" });
        runKernels("EspalierGeluGrad", { dy: x, x }, { approximate: "tanh" });
        const attrs = { causal: true, scale: 0.5 };
        const given = { q: heads, k: heads, v: heads, mask: tf.zeros([1, 1, 1, 3]) };
        const [y, logsumexp] = runKernels("EspalierAttention", given, attrs);
        runKernels("EspalierAttentionGrad", { dy: y!, ...given, y: y!, logsumexp: logsumexp! }, attrs);
        const [loss, logProbabilities] = runKernels("EspalierSoftmaxCrossEntropy", { logits: x, labels });
        runKernels("EspalierSoftmaxCrossEntropyGrad", {
          dLoss: loss!,
          logProbabilities: logProbabilities!,
          labels,
        });
        runKernels("EspalierEmbeddingGrad", { dy: x, indices: labels }, { vocabulary: 5 });
        const [, keepMask] = runKernels("EspalierDropout", { x }, { rate: 0.5, seed: 1, offset: 1 });
        runKernels("EspalierDropoutGrad", { dy: x, keepMask: keepMask! }, { rate: 0.5 });
        const grad0 = vector.mul(2);
        const [norm] = runKernels("EspalierGlobalNorm", { x0: grad0 }, { count: 1 });
        runKernels("EspalierScaleByClip", { norm: norm!, x0: grad0 }, { count: 1, maxNorm: 0.1 });
        const rates = { learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecays: [0] };
        runKernels("EspalierAdamW", { ...state, grad0 }, { count: 1, ...rates });
      });
    step();
    const before = count();
    for (let index = 0; index < 20; index++) step();
    expect(count()).toEqual(before);
  });

  it("returns to where it was after strings, complex numbers and failures", () => {
    const before = count();
    tf.tidy(() => {
      tf.concat([tf.tensor1d(["a", "b"]), tf.tensor1d(["c"])])
        .slice([1], [2])
        .dataSync();
      tf.real(tf.complex(tf.ones([3]), tf.zeros([3])).mul(tf.complex(tf.ones([3]), tf.ones([3]))));
      expect(() => tf.gather(tf.ones([2]), tf.tensor1d([7], "int32"))).toThrow(/index value 7/);
      expect(() => tf.matMul(tf.ones([2, 2]), tf.ones([3, 3]))).toThrow(/inner shapes/);
    });
    expect(count()).toEqual(before);
  });

  it("counts memory that tensors share once", () => {
    const before = libtorchInfo()!;
    const x = tf.ones([1000]);
    const view = x.slice([0], [500]);
    const turned = x.reshape([10, 100]).transpose();
    expect(libtorchInfo()!.bytes - before.bytes).toBe(4000);
    expect(libtorchInfo()!.handles - before.handles).toBe(3);
    tf.dispose([x, view]);
    expect(libtorchInfo()!.bytes - before.bytes).toBe(4000);
    turned.dispose();
    expect(libtorchInfo()!.handles).toBe(before.handles + 1);
  });
});
