import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { useLibtorch } from "../test/libtorch.js";
import { kernels } from "./kernels/index.js";

const values = (tensor: tf.Tensor) => Array.from(tensor.dataSync());

describe("TensorFlow.js's meaning of operations, where ATen's is another", () => {
  beforeAll(() => useLibtorch());

  it("divides integers towards minus infinity, and by zero to zero", () => {
    const a = tf.tensor1d([-7, 7, -7, 5], "int32");
    const b = tf.tensor1d([2, 2, -2, 0], "int32");
    expect(values(tf.div(a, b))).toEqual([-4, 3, 3, 0]);
    expect(values(tf.mod(a, b))).toEqual([1, 1, -1, 0]);
    expect(tf.div(a, b).dtype).toBe("int32");
  });

  it("wraps integers around", () => {
    expect(values(tf.add(tf.scalar(2 ** 31 - 1, "int32"), tf.scalar(1, "int32")))).toEqual([-(2 ** 31)]);
    expect(tf.sum(tf.tensor1d([2 ** 30, 2 ** 30, 2 ** 30], "int32")).dtype).toBe("int32");
  });

  it("counts booleans", () => {
    const bools = tf.tensor1d([true, true, false]);
    expect(values(bools.sum())).toEqual([2]);
    expect(bools.sum().dtype).toBe("int32");
    expect(values(tf.all(bools))).toEqual([0]);
    expect(tf.all(bools).dtype).toBe("bool");
    expect(tf.equal(tf.scalar(1), tf.scalar(1)).dtype).toBe("bool");
  });

  it("hands NaN on, and leaves it out of argMax", () => {
    expect(values(tf.maximum(tf.tensor1d([Number.NaN, 1]), tf.tensor1d([0, Number.NaN])))).toEqual([
      Number.NaN,
      Number.NaN,
    ]);
    expect(values(tf.relu(tf.tensor1d([Number.NaN, -1])))).toEqual([Number.NaN, 0]);
    expect(values(tf.argMax(tf.tensor1d([1, Number.NaN, 3])))).toEqual([2]);
    expect(values(tf.step(tf.tensor1d([Number.NaN, 2, -2]), 0.5))).toEqual([Number.NaN, 1, 0.5]);
  });

  it("reduces nothing to the neutral element", () => {
    expect(values(tf.sum(tf.zeros([0, 2]), 0))).toEqual([0, 0]);
    expect(values(tf.max(tf.zeros([2, 0]), 1))).toEqual([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    expect(values(tf.prod(tf.zeros([0])))).toEqual([1]);
    expect(tf.matMul(tf.zeros([0, 3]), tf.zeros([3, 2])).shape).toEqual([0, 2]);
    expect(values(tf.matMul(tf.zeros([1, 0]), tf.zeros([0, 2])))).toEqual([0, 0]);
  });

  it("orders equal values by index", () => {
    const { values: top, indices } = tf.topk(tf.tensor1d([1, 3, 3, 2, 3]), 3);
    expect(values(top)).toEqual([3, 3, 3]);
    expect(values(indices)).toEqual([1, 2, 4]);
  });

  it("leaves rows of no segment out", () => {
    const ids = tf.tensor1d([0, -1, 1, 5], "int32");
    expect(values(tf.unsortedSegmentSum(tf.tensor1d([1, 2, 4, 8]), ids, 2))).toEqual([1, 4]);
  });

  it("moves strings around", () => {
    const strings = tf.tensor2d([
      ["a", "b"],
      ["ä", ""],
    ]);
    expect(strings.slice([1, 0], [1, 2]).dataSync()).toEqual(["ä", ""]);
    expect(tf.concat([strings, strings], 1).dataSync()).toEqual(["a", "b", "a", "b", "ä", "", "ä", ""]);
    expect(tf.stack(tf.unstack(strings, 1)).dataSync()).toEqual(["a", "ä", "b", ""]);
  });

  it("takes over tensors of another backend", async () => {
    await tf.setBackend("cpu");
    const x = tf.tensor2d([
      [1, 2],
      [3, 4],
    ]);
    const y = x.add(1);
    await tf.setBackend("libtorch");
    expect(values(x.matMul(y))).toEqual([10, 13, 22, 29]);
    await tf.setBackend("cpu");
    expect(values(x.add(y))).toEqual([3, 5, 7, 9]);
    await tf.setBackend("libtorch");
  });

  it("gives the same numbers twice", () => {
    const run = () => {
      const x = tf.randomNormal([64, 64], 0, 1, "float32", 3);
      const logits = tf.softmax(x.matMul(x).tanh());
      return values(tf.multinomial(logits.slice([0, 0], [1, 64]) as tf.Tensor2D, 20, 5)).concat(
        values(logits.mean(0)),
      );
    };
    expect(run()).toEqual(run());
  });

  it("times and reads asynchronously", async () => {
    const x = tf.ones([100, 100]);
    expect((await tf.time(() => x.matMul(x))).kernelMs).toBeGreaterThan(0);
    expect((await x.sum().data())[0]).toBe(10_000);
    expect(tf.backend().floatPrecision()).toBe(32);
    expect(tf.backend().epsilon()).toBe(1e-7);
  });

  it("has no kernel whose name TensorFlow.js does not know, but for the fused ones", () => {
    const known = new Set<unknown>(Object.values(tf).filter((value) => typeof value === "string"));
    const unknown = kernels.map(({ name }) => name).filter((name) => !known.has(name));
    expect(unknown.filter((name) => !name.startsWith("Espalier"))).toEqual([]);
    expect(new Set(kernels.map(({ name }) => name)).size).toBe(kernels.length);
  });
});
