import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { describeAttention } from "../../../test/attention-cases.js";
import { valuesOf } from "../../../test/float64.js";
import { describeIndexedSum } from "../../../test/indexed-sum-cases.js";
import { describeLayerParts } from "../../../test/layer-part-cases.js";
import { runKernels } from "../../../test/libtorch.js";

// The CPU under another name: what a GPU is given, run here.
describeAttention("cpu:0");
describeLayerParts("cpu:0");
describeIndexedSum("cpu:0");

describe("EspalierDropout on cpu:0", () => {
  const masked = (seed: number, offset: number) =>
    valuesOf(runKernels("EspalierDropout", { x: tf.ones([20_000]) }, { rate: 0.25, seed, offset })[0]!);

  it("draws by seed and offset alone", () => {
    const first = masked(3, 4);
    const kept = first.filter((value) => value !== 0);
    expect(new Set(kept)).toEqual(new Set([Math.fround(1 / 0.75)]));
    expect(Math.abs(kept.length / first.length - 0.75)).toBeLessThan(0.02);
    expect(masked(4, 3)).not.toEqual(first);
    expect(masked(3, 5)).not.toEqual(first);
    expect(masked(3, 4)).toEqual(first);
  });
});
