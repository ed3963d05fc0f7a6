import { loadBackend } from "@espalier/backends";
import { stream } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { embedding, sumRowsByProducts } from "./embedding.js";

describe("the embedding's gradient on wasm, which has no segment sum", () => {
  beforeAll(async () => {
    await loadBackend({ backend: "wasm" });
  });

  it("sums the rows of dy by token", () => {
    expect(tf.getKernel("UnsortedSegmentSum", "wasm")).toBeUndefined();
    const gradient = tf.tidy(() => {
      const table = tf.zeros<tf.Rank.R2>([5, 2]);
      const dy = tf.tensor2d([
        [1, 2],
        [3, 4],
        [5, 6],
        [7, 8],
      ]);
      const lookup = (given: tf.Tensor) =>
        embedding(given as tf.Tensor2D, tf.tensor1d([4, 1, 4, 0], "int32"));
      return tf.grad(lookup)(table, dy).arraySync();
    });
    expect(gradient).toEqual([
      [7, 8],
      [3, 4],
      [0, 0],
      [0, 0],
      [6, 8],
    ]);
  });

  it("is the same when the vocabulary does not fit into one slice", () => {
    const [rows, vocabulary, hidden] = [300, 401, 3];
    tf.tidy(() => {
      const indices = Int32Array.from({ length: rows }, (_, row) => stream(1).integer(vocabulary, row));
      const dy = stream(2).normals(rows * hidden);
      const expected = new Float64Array(vocabulary * hidden);
      for (const [row, index] of indices.entries())
        for (let channel = 0; channel < hidden; channel++)
          expected[index * hidden + channel]! += dy[row * hidden + channel]!;
      const sums = sumRowsByProducts(
        tf.tensor2d(dy, [rows, hidden]),
        tf.tensor1d(indices, "int32"),
        vocabulary,
        10_000,
      );
      expect(sums.shape).toEqual([vocabulary, hidden]);
      const errors = [...sums.dataSync()].map((value, at) => Math.abs(value - expected[at]!));
      expect(errors.reduce((worst, error) => Math.max(worst, error), 0)).toBeLessThan(1e-5);
    });
  });
});
