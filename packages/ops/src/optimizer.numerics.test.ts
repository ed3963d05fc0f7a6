import { loadBackend } from "@espalier/backends";
import { type ParameterState, type ParameterUpdate, stream } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { adamW } from "./adamw.js";
import { clipByGlobalNorm, globalNorm } from "./gradient-norm.js";
import { withoutFusedKernels } from "./kernel.js";

beforeAll(async () => {
  await loadBackend({ backend: process.env.ESPALIER_BACKEND });
});

const paths: readonly (readonly [string, <T>(compute: () => T) => T])[] = [
  ["as the engine runs it", (compute) => compute()],
  ["composed", withoutFusedKernels],
];

function freshState(values: readonly number[]): ParameterState {
  return {
    weight: tf.tensor1d([...values]),
    firstMoment: tf.zeros([values.length]),
    secondMoment: tf.zeros([values.length]),
    stepCount: tf.scalar(0),
  };
}

/** AdamW as PyTorch's documentation states it, in float64. */
function referenceAdamW(
  weight: number[],
  gradients: readonly (readonly number[])[],
  numbers: { learningRate: number; weightDecay: number; beta1: number; beta2: number; epsilon: number },
): number[] {
  const { learningRate, weightDecay, beta1, beta2, epsilon } = numbers;
  return weight.map((initial, index) => {
    let [w, m, v] = [initial, 0, 0];
    for (const [step, gradient] of gradients.entries()) {
      const g = gradient[index]!;
      w -= learningRate * weightDecay * w;
      m = beta1 * m + (1 - beta1) * g;
      v = beta2 * v + (1 - beta2) * g * g;
      const corrected = v / (1 - beta2 ** (step + 1));
      w -= ((learningRate / (1 - beta1 ** (step + 1))) * m) / (Math.sqrt(corrected) + epsilon);
    }
    return w;
  });
}

describe.each(paths)("AdamW %s", (_, run) => {
  const numbers = { learningRate: 0.01, weightDecay: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
  const initial = [0.5, -1.25, 2, 0.001];
  const gradients = Array.from({ length: 12 }, (_, step) => [...stream(3).fork(step).normals(4)]);

  it("follows PyTorch's formula, with and without decay", () => {
    const before = tf.memory().numTensors;
    const states = [freshState(initial), freshState(initial)];
    for (const gradient of gradients) {
      const held = tf.tensor1d(gradient);
      const updates: ParameterUpdate[] = states.map((state, index) => ({
        name: `p${index}`,
        state,
        gradient: held,
        decay: index === 0,
      }));
      run(() => adamW(updates, numbers));
      expect(held.isDisposed).toBe(false);
      held.dispose();
    }
    const expected = [
      referenceAdamW(initial, gradients, numbers),
      referenceAdamW(initial, gradients, { ...numbers, weightDecay: 0 }),
    ];
    for (const [index, state] of states.entries()) {
      const weight = [...state.weight.dataSync()];
      for (const [at, value] of weight.entries())
        expect(Math.abs(value - expected[index]![at]!)).toBeLessThan(1e-6);
      expect(state.stepCount.dataSync()[0]).toBe(12);
    }
    expect(tf.memory().numTensors).toBe(before + 8);
    tf.dispose(
      states.map(({ weight, firstMoment, secondMoment, stepCount }) => [
        weight,
        firstMoment,
        secondMoment,
        stepCount,
      ]),
    );
    expect(tf.memory().numTensors).toBe(before);
  });

  it("corrects the bias of each parameter by its own count of updates", () => {
    const [young, old] = [freshState([1]), freshState([1])];
    old.stepCount.dispose();
    old.stepCount = tf.scalar(1000);
    const gradient = tf.tensor1d([0.5]);
    run(() =>
      adamW(
        [
          { name: "young", state: young, gradient, decay: false },
          { name: "old", state: old, gradient, decay: false },
        ],
        numbers,
      ),
    );
    expect(young.weight.dataSync()[0]).toBeCloseTo(1 - 0.01, 6);
    const m = (0.1 * 0.5) / (1 - 0.9 ** 1001);
    const v = (0.001 * 0.25) / (1 - 0.999 ** 1001);
    expect(old.weight.dataSync()[0]).toBeCloseTo(1 - (0.01 * m) / (Math.sqrt(v) + 1e-8), 6);
    tf.dispose([gradient, ...Object.values(young), ...Object.values(old)]);
  });

  it("changes no tensor that shares a parameter's data", () => {
    const state = freshState([1, 2]);
    const clone = state.weight.clone();
    const gradient = tf.tensor1d([1, 1]);
    run(() => adamW([{ name: "p", state, gradient, decay: true }], numbers));
    expect([...clone.dataSync()]).toEqual([1, 2]);
    expect(state.weight.dataSync()[0]).not.toBe(1);
    tf.dispose([clone, gradient, ...Object.values(state)]);
  });
});

describe.each(paths)("clipping %s", (_, run) => {
  it("computes the norm over all tensors", () => {
    tf.tidy(() => {
      const norm = run(() => globalNorm([tf.tensor1d([3, 0]), tf.tensor2d([[4]]), tf.scalar(12)]));
      expect(norm.dataSync()[0]).toBeCloseTo(13, 5);
      expect(norm.shape).toEqual([]);
    });
  });

  it.each([
    ["scales by c / (norm + 1e-6) above the limit", 2, 2 / (13 + 1e-6)],
    ["leaves gradients below the limit as they are", 20, 1],
  ])("%s", (_, limit, factor) => {
    const before = tf.memory().numTensors;
    const gradients: tf.Tensor[] = [tf.tensor1d([3, 0]), tf.tensor2d([[4]]), tf.scalar(12)];
    const norm = run(() => globalNorm(gradients));
    run(() => clipByGlobalNorm(gradients, norm, limit));
    const values = gradients.flatMap((gradient) => [...gradient.dataSync()]);
    for (const [index, value] of [3, 0, 4, 12].entries())
      expect(values[index]).toBeCloseTo(value * factor, 5);
    tf.dispose([norm, gradients]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it("does not touch tensors that share a gradient's data", () => {
    const gradient = tf.tensor1d([6, 8]);
    const clone = gradient.clone();
    const gradients: tf.Tensor[] = [gradient];
    const norm = run(() => globalNorm(gradients));
    run(() => clipByGlobalNorm(gradients, norm, 5));
    expect([...clone.dataSync()]).toEqual([6, 8]);
    expect(gradients[0]!.dataSync()[0]).toBeCloseTo(3, 5);
    tf.dispose([clone, norm, gradients]);
  });

  it("refuses nothing when there is nothing", () => {
    const norm = run(() => globalNorm([]));
    expect(norm.dataSync()[0]).toBe(0);
    run(() => clipByGlobalNorm([], norm, 1));
    norm.dispose();
  });
});
