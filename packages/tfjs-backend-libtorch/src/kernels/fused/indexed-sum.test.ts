import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { describeIndexedSum } from "../../../test/indexed-sum-cases.js";
import { runKernels, useLibtorch } from "../../../test/libtorch.js";

describeIndexedSum("cpu");

describe("EspalierIndexedSum's own loop", () => {
  it("leaves out what has a scale of 0, also where it is not a number", async () => {
    await useLibtorch();
    const terms = [1, 0].map((first) => ({
      scale: 1,
      axes: [{ indices: [0, 1], scales: [first, 1 - first] }, null],
    }));
    const sources = { source0: tf.tensor2d([[1], [Number.NaN]]), source1: tf.tensor2d([[Infinity], [4]]) };
    expect([...runKernels("EspalierIndexedSum", sources, { terms })[0]!.dataSync()]).toEqual([1, 4]);
  });
});
