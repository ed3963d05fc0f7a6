import { beforeAll, describe, expect, it } from "vitest";
import { largestDifference, numericGradient, valuesOf } from "../../../test/float64.js";
import { normal, runKernels, useLibtorch } from "../../../test/libtorch.js";

const ROWS = 3;
const SIZE = 6;
const EPSILON = 1e-5;

function layerNorm(x: number[], gain: number[], bias: number[]): number[] {
  return x.map((value, index) => {
    const start = Math.floor(index / SIZE) * SIZE;
    const row = x.slice(start, start + SIZE);
    const mean = row.reduce((a, b) => a + b) / SIZE;
    const variance = row.reduce((sum, one) => sum + (one - mean) ** 2, 0) / SIZE;
    const column = index - start;
    return (
      ((value - mean) / Math.sqrt(variance + EPSILON)) * (gain[column] as number) + (bias[column] as number)
    );
  });
}

describe("EspalierLayerNorm", () => {
  beforeAll(() => useLibtorch());

  it("normalises rows, and its gradients are those of the formula", () => {
    const x = normal([ROWS, SIZE], 1);
    const gain = normal([SIZE], 2);
    const bias = normal([SIZE], 3);
    const dy = normal([ROWS, SIZE], 4);
    const inputs = [x, gain, bias].map(valuesOf);

    const [y, mean, rstd] = runKernels("EspalierLayerNorm", { x, gain, bias }, { epsilon: EPSILON });
    expect(largestDifference(y!, layerNorm(inputs[0]!, inputs[1]!, inputs[2]!))).toBeLessThan(1e-5);
    expect(mean!.size).toBe(ROWS);

    const gradients = runKernels(
      "EspalierLayerNormGrad",
      { dy, x, gain, bias, mean: mean!, rstd: rstd! },
      { epsilon: EPSILON },
    );
    expect(gradients.map(({ shape }) => shape)).toEqual([[ROWS, SIZE], [SIZE], [SIZE]]);
    gradients.forEach((gradient, which) => {
      const expected = numericGradient(layerNorm as never, inputs, which, valuesOf(dy));
      expect(largestDifference(gradient, expected)).toBeLessThan(1e-4);
    });
  });

  it("gives zero rows back", () => {
    const inputs = { x: normal([0, SIZE], 1), gain: normal([SIZE], 2), bias: normal([SIZE], 3) };
    const [y] = runKernels("EspalierLayerNorm", inputs, { epsilon: EPSILON });
    expect(y!.shape).toEqual([0, SIZE]);
  });
});
