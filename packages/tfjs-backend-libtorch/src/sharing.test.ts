import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { useLibtorch } from "../test/libtorch.js";
import { libtorchInfo } from "./load.js";

const values = (tensor: tf.Tensor) => Array.from(tensor.dataSync());

describe("tensors that share data", () => {
  beforeAll(() => useLibtorch());

  it("have one data id when one is a clone or a reshape of the other", () => {
    const x = tf.tensor2d([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const { numDataBuffers } = tf.memory();
    const clone = x.clone();
    const reshaped = x.reshape([3, 2]);
    expect(tf.memory().numDataBuffers).toBe(numDataBuffers);
    expect(clone.dataId).toBe(x.dataId);
    expect(reshaped.dataId).toBe(x.dataId);
  });

  it("are each seen by kernels in their own shape", () => {
    const x = tf.tensor2d([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const reshaped = x.reshape([3, 2]);
    expect(values(reshaped.sum(1))).toEqual([3, 7, 11]);
    expect(values(x.sum(1))).toEqual([6, 15]);
    expect(values(reshaped.transpose())).toEqual([1, 3, 5, 2, 4, 6]);
    expect(values(tf.matMul(x, reshaped))).toEqual([22, 28, 49, 64]);
  });

  it("live as long as the last of them", () => {
    const x = tf.tensor1d([1, 2, 3, 4]);
    const reshaped = x.reshape([2, 2]);
    const view = reshaped.slice([1, 0], [1, 2]);
    x.dispose();
    expect(values(reshaped)).toEqual([1, 2, 3, 4]);
    reshaped.dispose();
    expect(values(view)).toEqual([3, 4]);
    view.dispose();
  });

  it("cost no memory when they are transposes, slices or splits", () => {
    const x = tf.ones([64, 64]);
    const { bytes } = libtorchInfo()!;
    const views = [x.transpose(), x.slice([3, 4], [5, 6]), ...tf.split(x, 4), ...tf.unstack(x)];
    expect(libtorchInfo()!.bytes).toBe(bytes);
    tf.dispose(views);
  });

  it("may be strided in every kind of kernel", () => {
    const turned = tf
      .tensor2d([
        [1, 2, 3],
        [4, 5, 6],
      ])
      .transpose();
    expect(values(turned)).toEqual([1, 4, 2, 5, 3, 6]);
    expect(values(turned.reshape([6]))).toEqual([1, 4, 2, 5, 3, 6]);
    expect(values(turned.add(tf.tensor1d([10, 20])))).toEqual([11, 24, 12, 25, 13, 26]);
    expect(values(turned.sum(0))).toEqual([6, 15]);
    expect(values(turned.matMul(turned, true))).toEqual([14, 32, 32, 77]);
    expect(values(tf.gather(turned, tf.tensor1d([2, 0], "int32")))).toEqual([3, 6, 1, 4]);
    expect(values(tf.concat([turned, turned.slice([0, 0], [1, 2])]))).toEqual([1, 4, 2, 5, 3, 6, 1, 4]);
    expect(values(turned.cast("int32"))).toEqual([1, 4, 2, 5, 3, 6]);
    expect(values(turned.reverse(0).argMax(0))).toEqual([0, 0]);
    expect(values(turned.clone())).toEqual([1, 4, 2, 5, 3, 6]);
  });
});
