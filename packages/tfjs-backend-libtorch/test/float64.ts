import type { Tensor } from "@tensorflow/tfjs";

/** A function of several lists of numbers, in double precision: what a kernel is compared with. */
export type Reference = (...inputs: number[][]) => number[];

/** The values of a tensor as double-precision numbers. */
export function valuesOf(tensor: Tensor): number[] {
  return Array.from(tensor.dataSync());
}

/** The largest absolute difference; infinite for lists of different lengths. */
export function largestDifference(actual: Tensor | number[], expected: readonly number[]): number {
  const values = Array.isArray(actual) ? actual : valuesOf(actual);
  if (values.length !== expected.length) return Number.POSITIVE_INFINITY;
  return values.reduce((worst, value, index) => {
    const difference = Math.abs(value - (expected[index] as number));
    return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(worst, difference);
  }, 0);
}

/**
 * The gradient of `sum(weights * f(inputs))` with respect to one input, by central differences in double precision.
 */
export function numericGradient(
  f: Reference,
  inputs: number[][],
  which: number,
  weights: readonly number[],
): number[] {
  const step = 1e-5;
  const at = (index: number, change: number) => {
    const moved = inputs.map((input) => [...input]);
    const target = moved[which] as number[];
    target[index] = (target[index] as number) + change;
    return f(...moved).reduce((sum, value, position) => sum + value * (weights[position] as number), 0);
  };
  return (inputs[which] as number[]).map((_, index) => (at(index, step) - at(index, -step)) / (2 * step));
}

/** a [rows, inner] × b [inner, columns] */
export function matmul(a: readonly number[], b: readonly number[], inner: number): number[] {
  const rows = a.length / inner;
  const columns = b.length / inner;
  return Array.from({ length: rows * columns }, (_, index) => {
    const row = Math.floor(index / columns);
    let sum = 0;
    for (let k = 0; k < inner; k++) {
      sum += (a[row * inner + k] as number) * (b[k * columns + (index % columns)] as number);
    }
    return sum;
  });
}

/** The rows of a list become its columns. */
export function transpose(a: readonly number[], columns: number): number[] {
  const rows = a.length / columns;
  return Array.from(
    { length: a.length },
    (_, index) => a[(index % rows) * columns + Math.floor(index / rows)] as number,
  );
}

/** The logarithm of a sum of exponentials. */
export function logSumExp(values: readonly number[]): number {
  const largest = Math.max(...values);
  return largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
}
