import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { valuesOf } from "../../../test/float64.js";
import { addonPathOfTests, normal, runKernels, useLibtorch } from "../../../test/libtorch.js";
import { loadLibtorch } from "../../load.js";

function masked(x: tf.Tensor, rate: number, seed: number, offset: number): number[] {
  const [y] = runKernels("EspalierDropout", { x }, { rate, seed, offset });
  return valuesOf(y!);
}

describe("EspalierDropout", () => {
  beforeAll(() => useLibtorch());

  it("keeps a share of 1 - rate, scaled so that the mean stays", () => {
    const kept = masked(tf.ones([100, 1000]), 0.1, 7, 0);
    expect(new Set(kept)).toEqual(new Set([0, Math.fround(1 / 0.9)]));
    const share = kept.filter((value) => value !== 0).length / kept.length;
    // Five standard deviations of a share of 100 000 draws.
    expect(Math.abs(share - 0.9)).toBeLessThan(0.005);
  });

  it("gives the same mask for the same seed and offset, whatever was drawn before", () => {
    const x = tf.ones([64, 64]);
    const first = masked(x, 0.5, 123, 4);
    masked(x, 0.5, 99, 1);
    tf.multinomial(tf.tensor1d([0.5, 0.5]), 10).dispose();
    expect(masked(x, 0.5, 123, 4)).toEqual(first);
  });

  it("gives unrelated masks for other seeds and other offsets", () => {
    const x = tf.ones([10_000]);
    const first = masked(x, 0.5, 123, 4);
    for (const [seed, offset] of [
      [123, 5],
      [124, 4],
      [4, 123],
    ] as const) {
      const other = masked(x, 0.5, seed, offset);
      const equal = other.filter((value, index) => value === first[index]).length;
      expect(Math.abs(equal / first.length - 0.5)).toBeLessThan(0.03);
    }
  });

  it("draws the same mask with any number of threads", () => {
    const addonPath = addonPathOfTests();
    const x = tf.ones([300, 301]);
    const two = masked(x, 0.25, 1, 2);
    loadLibtorch({ addonPath, threads: 1 });
    expect(masked(x, 0.25, 1, 2)).toEqual(two);
    loadLibtorch({ addonPath, threads: 2 });
  });

  it("draws neighbours, and neighbouring offsets, independently", () => {
    const size = 100_000;
    const dropped = (offset: number) =>
      masked(tf.ones([size]), 0.5, 1, offset).map((value) => (value === 0 ? 1 : 0));
    const a = dropped(0);
    const b = dropped(1);
    const agreement = (shift: number, other: number[]) =>
      a.reduce<number>((sum, value, index) => sum + (value === other[(index + shift) % size] ? 1 : 0), 0) /
      size;
    for (const shift of [1, 2, 3, 4, 64, 300]) {
      expect(Math.abs(agreement(shift, a) - 0.5)).toBeLessThan(0.01);
      expect(Math.abs(agreement(shift, b) - 0.5)).toBeLessThan(0.01);
    }
  });

  it("draws the same mask for a strided input", () => {
    const x = normal([8, 16], 1);
    const strided = x.transpose();
    const copy = tf.tensor(strided.dataSync(), strided.shape);
    expect(masked(strided, 0.3, 5, 0)).toEqual(masked(copy, 0.3, 5, 0));
  });

  it("lets the gradient through where the input went through, with the same scale", () => {
    const x = normal([50], 1);
    const [y, keepMask] = runKernels("EspalierDropout", { x }, { rate: 0.4, seed: 1, offset: 2 });
    const [dx] = runKernels("EspalierDropoutGrad", { dy: x, keepMask: keepMask! }, { rate: 0.4 });
    expect(valuesOf(dx!)).toEqual(valuesOf(y!));
  });

  it("drops nothing at rate 0, and refuses a rate of 1", () => {
    const x = normal([50], 1);
    expect(masked(x, 0, 1, 2)).toEqual(valuesOf(x));
    expect(() => masked(x, 1, 1, 2)).toThrow(/EspalierDropout: the rate must be in \[0, 1\)/);
  });
});
