import type { ParameterUpdate } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { fusedKernel } from "./kernel.js";

/** AdamW's numbers for one step. */
export interface AdamWHyperparameters {
  readonly learningRate: number;
  /** Applies to the updates that say `decay`. */
  readonly weightDecay: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

const slots = ["weight", "firstMoment", "secondMoment", "stepCount"] as const;

/**
 * One AdamW step (Loshchilov & Hutter 2019, Algorithm 2, with the decay multiplied by the learning rate as PyTorch
 * does it). The states are updated: in place on the device where the engine has the kernel, else with new tensors, the
 * old ones being disposed. Gradients stay the caller's.
 */
export function adamW(updates: readonly ParameterUpdate[], hyperparameters: AdamWHyperparameters): void {
  if (updates.length === 0) return;
  const kernel = fusedKernel("EspalierAdamW");
  if (!kernel) {
    for (const update of updates) updateOne(update, hyperparameters);
    return;
  }
  const { learningRate, weightDecay, beta1, beta2, epsilon } = hyperparameters;
  const inputs: tf.NamedTensorMap = {};
  for (const [index, { state, gradient }] of updates.entries()) {
    inputs[`weight${index}`] = state.weight;
    inputs[`grad${index}`] = gradient;
    inputs[`first${index}`] = state.firstMoment;
    inputs[`second${index}`] = state.secondMoment;
    inputs[`step${index}`] = state.stepCount;
  }
  const weightDecays = updates.map(({ decay }) => (decay ? weightDecay : 0));
  kernel(inputs, { count: updates.length, learningRate, weightDecays, beta1, beta2, epsilon });
}

function updateOne({ state, gradient, decay }: ParameterUpdate, numbers: AdamWHyperparameters): void {
  const { learningRate, weightDecay, beta1, beta2, epsilon } = numbers;
  const next = tf.tidy(() => {
    const stepCount = state.stepCount.add(1);
    const firstMoment = state.firstMoment.mul(beta1).add(gradient.mul(1 - beta1));
    const secondMoment = state.secondMoment.mul(beta2).add(gradient.square().mul(1 - beta2));
    const rate = tf.div(learningRate, oneMinusPower(beta1, stepCount));
    const deviation = secondMoment.div(oneMinusPower(beta2, stepCount)).sqrt().add(epsilon);
    const kept = decay && weightDecay !== 0 ? state.weight.mul(1 - learningRate * weightDecay) : state.weight;
    const weight = kept.sub(firstMoment.div(deviation).mul(rate));
    return { weight, firstMoment, secondMoment, stepCount };
  });
  for (const slot of slots) {
    state[slot].dispose();
    state[slot] = tf.keep(next[slot]);
  }
}

/**
 * 1 − β^t on the device. In float32 the plain formula loses five digits at t = 1, β = 0.999; −expm1(t·ln β), written
 * with tanh, which every engine has, loses none.
 */
function oneMinusPower(beta: number, stepCount: tf.Tensor): tf.Tensor {
  if (beta === 0) return tf.onesLike(stepCount);
  const half = stepCount.mul(Math.log(beta) / 2).tanh();
  return half.mul(-2).div(tf.sub(1, half));
}
