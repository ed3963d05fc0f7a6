import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { largestDifference, matmul, numericGradient, valuesOf } from "./float64.js";
import { normal, runKernels, useLibtorch } from "./libtorch.js";

const EPSILON = 1e-5;
const attributes = { weightLayout: "in_out", precision: "fp32", rate: 0, seed: 0, epsilon: EPSILON };

const rowsOf = (list: number[], columns: number) =>
  Array.from({ length: list.length / columns }, (_, row) => list.slice(row * columns, (row + 1) * columns));

function affine(x: number[], weight: number[], bias: number[], inner: number): number[] {
  return matmul(x, weight, inner).map((value, index) => value + bias[index % bias.length]!);
}

function normalised(x: number[], gain: number[], shift: number[]): number[] {
  return rowsOf(x, gain.length).flatMap((row) => {
    const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
    return row.map(
      (value, index) => (gain[index]! * (value - mean)) / Math.sqrt(variance + EPSILON) + shift[index]!,
    );
  });
}

const plus = (a: number[], b: number[]) => a.map((value, index) => value + b[index]!);

/** Φ(x) by Simpson's rule: good to 1e-7 in the range of the tests. */
function cumulative(x: number): number {
  const density = (t: number) => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  const steps = 120;
  const width = x / steps;
  let sum = density(0) + density(x);
  for (let step = 1; step < steps; step++) sum += (step % 2 === 1 ? 4 : 2) * density(step * width);
  return 0.5 + (sum * width) / 3;
}

const gelu = {
  none: (x: number) => x * cumulative(x),
  tanh: (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

// Odd sizes, so that rows end within a vector, or leave a rest.
const sizes = [
  { rows: 3, hidden: 5, inner: 7 },
  { rows: 2, hidden: 33, inner: 18 },
];

/**
 * Runs a kernel and its gradient beside a function in double precision.
 *
 * @param inputs the kernel's inputs in the order of its gradients
 * @param kept names of what the forward kernel gives beside its value
 */
function compare(options: {
  name: string;
  attrs: Record<string, unknown>;
  inputs: Record<string, tf.Tensor>;
  reference: (...inputs: number[][]) => number[];
  kept: readonly string[];
  tolerance: number;
}): void {
  const { name, attrs, inputs, reference, kept, tolerance } = options;
  const lists = Object.values(inputs).map(valuesOf);
  const [y, ...state] = runKernels(name, inputs, attrs);
  expect(largestDifference(y!, reference(...lists))).toBeLessThan(tolerance);
  const dy = normal(y!.shape, 99);
  const saved = Object.fromEntries(kept.map((key, index) => [key, state[index]!]));
  const gradients = runKernels(`${name}Grad`, { dy, ...inputs, ...saved }, attrs);
  gradients.forEach((gradient, which) => {
    const expected = numericGradient(reference, lists, which, valuesOf(dy));
    expect(gradient.shape).toEqual(Object.values(inputs)[which]!.shape);
    expect(largestDifference(gradient, expected)).toBeLessThan(10 * tolerance);
  });
}

/** The tests of a layer's parts on a device. `cpu` has operators of our own; the others, and `cpu:0`, compose ATen's. */
export function describeLayerParts(device: string): void {
  describe(`the parts of a layer on ${device}`, () => {
    beforeAll(() => useLibtorch(device));

    describe.each(sizes)("with $rows rows of $hidden, $inner within", ({ rows, hidden, inner }) => {
      const x = normal([rows, inner], 1);
      const residual = normal([rows, hidden], 2);
      const weight = normal([inner, hidden], 3);
      const bias = normal([hidden], 4);
      const gain = normal([hidden], 5);
      const shift = normal([hidden], 6);

      it("EspalierResidualLinear is the formula, and so are its gradients", () => {
        compare({
          name: "EspalierResidualLinear",
          attrs: attributes,
          inputs: { x, weight, bias, residual },
          reference: (x, weight, bias, residual) => plus(residual!, affine(x!, weight!, bias!, inner)),
          kept: [],
          tolerance: 1e-5,
        });
      });

      it("EspalierResidualLinearNorm is the formula, and so are its gradients", () => {
        compare({
          name: "EspalierResidualLinearNorm",
          attrs: attributes,
          inputs: { x, weight, bias, residual, gain, shift },
          reference: (x, weight, bias, residual, gain, shift) =>
            normalised(plus(residual!, affine(x!, weight!, bias!, inner)), gain!, shift!),
          kept: ["sum", "mean", "rstd"],
          tolerance: 2e-5,
        });
      });

      it("EspalierNormLinear is the formula, and so are its gradients", () => {
        compare({
          name: "EspalierNormLinear",
          attrs: attributes,
          inputs: {
            x: residual,
            weight: normal([hidden, inner], 7),
            bias: normal([inner], 8),
            gain,
            shift,
          },
          reference: (x, weight, bias, gain, shift) =>
            affine(normalised(x!, gain!, shift!), weight!, bias!, hidden),
          kept: ["normal", "mean", "rstd"],
          tolerance: 5e-5,
        });
      });

      it.each(["none", "tanh"] as const)(
        "both feed-forward parts with the activation %s are the formula, and so are their gradients",
        (approximate) => {
          const inputs = {
            x: residual,
            weight1: normal([hidden, inner], 7).mul<tf.Tensor>(0.3),
            bias1: normal([inner], 8),
            weight2: weight,
            bias2: bias,
            gain,
            shift,
          };
          const branch = (x: number[], w1: number[], b1: number[], w2: number[], b2: number[]) =>
            affine(affine(x, w1, b1, hidden).map(gelu[approximate]), w2, b2, inner);
          const attrs = { ...attributes, approximate };
          compare({
            name: "EspalierFeedForwardPostNorm",
            attrs,
            inputs,
            reference: (x, w1, b1, w2, b2, gain, shift) =>
              normalised(plus(x!, branch(x!, w1!, b1!, w2!, b2!)), gain!, shift!),
            kept: ["inner", "sum", "mean", "rstd"],
            tolerance: 5e-5,
          });
          compare({
            name: "EspalierFeedForwardPreNorm",
            attrs,
            inputs,
            reference: (x, w1, b1, w2, b2, gain, shift) =>
              plus(x!, branch(normalised(x!, gain!, shift!), w1!, b1!, w2!, b2!)),
            kept: ["inner", "normal", "mean", "rstd"],
            tolerance: 5e-5,
          });
        },
        20_000,
      );
    });

    it("drops what EspalierDropout of the same seed drops, forward and backward, at even and odd widths", () => {
      for (const hidden of [6, 7]) {
        const x = normal([5, 4], 1);
        const weight = normal([4, hidden], 2);
        const bias = normal([hidden], 3);
        const residual = normal([5, hidden], 4);
        const attrs = { ...attributes, rate: 0.4, seed: 17 };
        const branch = tf.add(tf.matMul(x, weight), bias);
        const drop = { rate: 0.4, seed: 17, offset: 0 };
        const [dropped, mask] = runKernels("EspalierDropout", { x: branch }, drop);
        const [y] = runKernels("EspalierResidualLinear", { x, weight, bias, residual }, attrs);
        expect(largestDifference(y!, valuesOf(residual.add(dropped!)))).toBeLessThan(1e-5);
        const dy = normal([5, hidden], 5);
        const [dx, , dBias] = runKernels("EspalierResidualLinearGrad", { dy, x, weight }, attrs);
        const dBranch = dy.mul<tf.Tensor2D>(mask!);
        expect(largestDifference(dx!, valuesOf(tf.matMul(dBranch, weight, false, true)))).toBeLessThan(1e-5);
        expect(largestDifference(dBias!, valuesOf(dBranch.sum(0)))).toBeLessThan(1e-5);
      }
    });

    it("gives the same in bf16 up to its rounding", () => {
      const inputs = {
        x: normal([40, 33], 1),
        weight1: normal([33, 18], 2).mul<tf.Tensor>(0.2),
        bias1: normal([18], 3),
        weight2: normal([18, 33], 4).mul<tf.Tensor>(0.2),
        bias2: normal([33], 5),
        gain: normal([33], 6),
        shift: normal([33], 7),
      };
      const dy = normal([40, 33], 8);
      for (const [name, between] of [
        ["EspalierFeedForwardPostNorm", "sum"],
        ["EspalierFeedForwardPreNorm", "normal"],
      ] as const) {
        const results = ["fp32", "bf16"].map((precision) => {
          const attrs = { ...attributes, precision, approximate: "none" };
          const [y, inner, middle, mean, rstd] = runKernels(name, inputs, attrs);
          const saved = { inner: inner!, [between]: middle!, mean: mean!, rstd: rstd! };
          const value = valuesOf(y!);
          return [value, ...runKernels(`${name}Grad`, { dy, ...inputs, ...saved }, attrs).map(valuesOf)];
        });
        results[0]!.forEach((exact, index) => {
          const rounded = results[1]![index]!;
          const size = Math.hypot(...exact);
          const error = Math.hypot(...exact.map((value, at) => value - rounded[at]!));
          expect(error / size).toBeLessThan(0.02);
          // The value at least was rounded.
          if (index === 0) expect(error).toBeGreaterThan(0);
        });
      }
    });

    it("casts a weight to bf16 once, anew after it was changed in place, and leaves no handle behind", () => {
      const handles = () => (tf.memory() as unknown as { nativeHandles: number }).nativeHandles;
      const before = handles();
      tf.tidy(() => {
        const x = tf.ones([2, 3]);
        const weight = tf.ones([3, 2]);
        const attrs = { weightLayout: "in_out", precision: "bf16" };
        expect(valuesOf(runKernels("EspalierLinear", { x, weight }, attrs)[0]!)).toEqual([3, 3, 3, 3]);
        const held = handles();
        tf.dispose(runKernels("EspalierLinear", { x, weight }, attrs));
        expect(handles()).toBe(held);
        runKernels("EspalierScaleByClip", { x0: weight, norm: tf.scalar(2) }, { count: 1, maxNorm: 1 });
        const [y] = runKernels("EspalierLinear", { x, weight }, attrs);
        expect(largestDifference(y!, [1.5, 1.5, 1.5, 1.5])).toBeLessThan(0.01);
      });
      expect(handles()).toBe(before);
    });
  });
}
