import type { Optimizer } from "@espalier/core";
import { adamW } from "@espalier/ops";

/** AdamW's options. */
export interface AdamWOptions {
  /** The peak, which the learning-rate schedule's factor multiplies. */
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

/** AdamW (Loshchilov & Hutter 2019); moments and step counts are each parameter's own. */
export function adamWOptimizer(options: AdamWOptions): Optimizer {
  const { learningRate: peak, weightDecay, beta1, beta2, epsilon } = options;
  return {
    learningRate: peak,
    update: (updates, learningRate) => adamW(updates, { learningRate, weightDecay, beta1, beta2, epsilon }),
  };
}
