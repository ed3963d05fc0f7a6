import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { largestDifference, valuesOf } from "../../../test/float64.js";
import { normal, runKernels, useLibtorch } from "../../../test/libtorch.js";

const RATES = { learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

interface Parameter {
  weight: tf.Tensor;
  grad: tf.Tensor;
  first: tf.Tensor;
  second: tf.Tensor;
  step: tf.Tensor;
}

function parameter(shape: number[], seed: number): Parameter {
  return {
    weight: tf.variable(normal(shape, seed)),
    grad: normal(shape, seed + 1),
    first: tf.zeros(shape),
    second: tf.zeros(shape),
    step: tf.scalar(0),
  };
}

function update(parameters: Parameter[], weightDecays: number[]): void {
  const inputs: Record<string, tf.Tensor> = {};
  parameters.forEach((given, index) => {
    for (const [name, tensor] of Object.entries(given)) inputs[`${name}${index}`] = tensor;
  });
  expect(runKernels("EspalierAdamW", inputs, { count: parameters.length, weightDecays, ...RATES })).toEqual(
    [],
  );
}

/** AdamW as its paper has it, on one parameter, in double precision. */
function adamW(weight: number[], grad: number[], weightDecay: number, steps: number): number[] {
  const first = grad.map(() => 0);
  const second = grad.map(() => 0);
  const result = [...weight];
  for (let step = 1; step <= steps; step++) {
    grad.forEach((gradient, i) => {
      first[i] = RATES.beta1 * first[i]! + (1 - RATES.beta1) * gradient;
      second[i] = RATES.beta2 * second[i]! + (1 - RATES.beta2) * gradient ** 2;
      const mean = first[i]! / (1 - RATES.beta1 ** step);
      const variance = second[i]! / (1 - RATES.beta2 ** step);
      const decayed = result[i]! * (1 - RATES.learningRate * weightDecay);
      result[i] = decayed - (RATES.learningRate * mean) / (Math.sqrt(variance) + RATES.epsilon);
    });
  }
  return result;
}

describe("EspalierAdamW", () => {
  beforeAll(() => useLibtorch());

  it.each([1, 3])("is the formula after %i steps, with a weight decay of each parameter's own", (steps) => {
    const parameters = [parameter([3, 2], 1), parameter([4], 10), parameter([2, 2], 20)];
    const decays = [0.01, 0, 0.01];
    const before = parameters.map(({ weight }) => valuesOf(weight));
    for (let step = 0; step < steps; step++) update(parameters, decays);
    parameters.forEach(({ weight, grad, step }, index) => {
      const expected = adamW(before[index]!, valuesOf(grad), decays[index]!, steps);
      expect(largestDifference(weight, expected)).toBeLessThan(1e-5);
      expect(valuesOf(step)).toEqual([steps]);
    });
  });

  it("corrects the bias at the first step: every weight moves by the learning rate", () => {
    const given = parameter([5], 1);
    const before = valuesOf(given.weight);
    update([given], [0]);
    valuesOf(given.weight).forEach((value, index) => {
      expect(Math.abs(value - before[index]!)).toBeCloseTo(RATES.learningRate, 5);
    });
  });

  it("leaves clones, reshapes and views of what it changes as they were", () => {
    const given = parameter([2, 3], 1);
    const before = valuesOf(given.weight);
    const clone = given.weight.clone();
    const reshaped = given.weight.reshape([6]);
    const view = given.weight.slice([1, 0], [1, 3]);
    const turned = given.weight.transpose();
    const ofTurned = valuesOf(turned);
    update([given], [0.1]);
    expect(largestDifference(given.weight, before)).toBeGreaterThan(0.05);
    expect(valuesOf(clone)).toEqual(before);
    expect(valuesOf(reshaped)).toEqual(before);
    expect(valuesOf(view)).toEqual(before.slice(3));
    expect(valuesOf(turned)).toEqual(ofTurned);
  });

  it("changes a weight that is a transposed view of another tensor, and not the other", () => {
    const original = normal([3, 2], 1);
    const kept = valuesOf(original);
    const given = { ...parameter([2, 3], 5), weight: original.transpose() };
    const expected = adamW(valuesOf(given.weight), valuesOf(given.grad), 0, 1);
    update([given], [0]);
    expect(largestDifference(given.weight, expected)).toBeLessThan(1e-5);
    expect(valuesOf(original)).toEqual(kept);
  });

  it("takes a gradient in other strides than its weight", () => {
    const given = parameter([2, 3], 1);
    const strided = { ...given, grad: normal([3, 2], 9).transpose() };
    const expected = adamW(valuesOf(given.weight), valuesOf(strided.grad), 0, 1);
    update([strided], [0]);
    expect(largestDifference(given.weight, expected)).toBeLessThan(1e-5);
  });

  it("keeps the number of tensors and native handles when it separates shared ones", () => {
    const given = parameter([2, 3], 1);
    const clone = given.weight.clone();
    const { numTensors, numBytes } = tf.memory();
    update([given], [0]);
    expect(tf.memory()).toMatchObject({ numTensors, numBytes });
    clone.dispose();
    const after = tf.memory() as unknown as { nativeHandles: number };
    update([given], [0]);
    expect(tf.memory()).toMatchObject({ nativeHandles: after.nativeHandles });
  });

  it("says which input is missing, and when the decays are not one for each parameter", () => {
    const { weight, grad } = parameter([2], 1);
    expect(() =>
      runKernels(
        "EspalierAdamW",
        { weight0: weight, grad0: grad },
        { count: 1, weightDecays: [0], ...RATES },
      ),
    ).toThrow(/EspalierAdamW: input first0 is missing/);
    expect(() => update([parameter([2], 1)], [])).toThrow(/1 parameters, but 0 weight decays/);
  });
});

describe("EspalierGlobalNorm and EspalierScaleByClip", () => {
  beforeAll(() => useLibtorch());

  const norm = (tensors: tf.Tensor[]) => {
    const inputs = Object.fromEntries(tensors.map((tensor, index) => [`x${index}`, tensor]));
    return runKernels("EspalierGlobalNorm", inputs, { count: tensors.length })[0]!;
  };
  const clip = (tensors: tf.Tensor[], given: tf.Tensor, maxNorm: number) => {
    const inputs = Object.fromEntries(tensors.map((tensor, index) => [`x${index}`, tensor]));
    runKernels("EspalierScaleByClip", { norm: given, ...inputs }, { count: tensors.length, maxNorm });
  };

  it("takes the norm over all elements of all tensors", () => {
    expect(valuesOf(norm([tf.tensor1d([3, 0]), tf.tensor2d([[0, 4]])]))[0]).toBeCloseTo(5, 6);
    expect(valuesOf(norm([]))).toEqual([0]);
  });

  it("scales down to the largest norm, and leaves smaller ones as they are", () => {
    const tensors = [tf.tensor1d([3, 0]), tf.tensor1d([0, 4])];
    clip(tensors, norm(tensors), 10);
    expect(tensors.map(valuesOf)).toEqual([
      [3, 0],
      [0, 4],
    ]);
    clip(tensors, norm(tensors), 1);
    const factor = 1 / (5 + 1e-6);
    expect(largestDifference(tensors[0]!, [3 * factor, 0])).toBeLessThan(1e-6);
    expect(largestDifference(tensors[1]!, [0, 4 * factor])).toBeLessThan(1e-6);
  });

  it("scales a tensor once that is given twice, and clones of it once each", () => {
    const x = tf.tensor1d([3, 4]);
    const clone = x.clone();
    const bystander = x.reshape([2, 1]);
    clip([x, x, clone], tf.scalar(10), 1);
    expect(largestDifference(x, [0.3, 0.4])).toBeLessThan(1e-6);
    expect(largestDifference(clone, [0.3, 0.4])).toBeLessThan(1e-6);
    expect(valuesOf(bystander)).toEqual([3, 4]);
  });

  it("hands a norm that is not finite on, so that the caller sees it", () => {
    const x = tf.tensor1d([Number.NaN, 1]);
    expect(valuesOf(norm([x]))[0]).toBeNaN();
  });
});
