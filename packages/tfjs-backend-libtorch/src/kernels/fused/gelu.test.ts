import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { largestDifference, numericGradient, valuesOf } from "../../../test/float64.js";
import { normal, runKernels, useLibtorch } from "../../../test/libtorch.js";

/** The error function by its series, which converges everywhere. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

const exact = (list: number[]) => list.map((x) => 0.5 * x * (1 + erf(x / Math.SQRT2)));
const tanh = (list: number[]) =>
  list.map((x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))));

describe("EspalierGelu", () => {
  beforeAll(() => useLibtorch());

  it.each([
    { approximate: "none", reference: exact },
    { approximate: "tanh", reference: tanh },
  ])("is the formula for approximate=$approximate, and so is its gradient", ({ approximate, reference }) => {
    const x = normal([4, 5], 1);
    const dy = normal([4, 5], 2);
    const [y] = runKernels("EspalierGelu", { x }, { approximate });
    expect(largestDifference(y!, reference(valuesOf(x)))).toBeLessThan(1e-6);
    const [dx] = runKernels("EspalierGeluGrad", { dy, x }, { approximate });
    expect(largestDifference(dx!, numericGradient(reference, [valuesOf(x)], 0, valuesOf(dy)))).toBeLessThan(
      1e-5,
    );
  });

  it("tells its two forms apart", () => {
    const x = tf.tensor1d([2]);
    const [none] = runKernels("EspalierGelu", { x }, { approximate: "none" });
    const [approximate] = runKernels("EspalierGelu", { x }, { approximate: "tanh" });
    expect(Math.abs(valuesOf(none!)[0]! - valuesOf(approximate!)[0]!)).toBeGreaterThan(1e-5);
  });
});
