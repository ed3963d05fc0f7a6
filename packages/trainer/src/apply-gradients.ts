import type { Optimizer, ParameterUpdate, TrainingParameters } from "@espalier/core";
import { clipByGlobalNorm, globalNorm } from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";
import type { Gradients } from "./micro-step.js";

/**
 * Clips by the global norm and updates what got a gradient, and nothing else: no decay, no moment and no count moves
 * without one. The gradients are used up.
 *
 * @param names the order of the updates: the family's
 * @param decays whether weight decay applies, by name
 * @param clipNorm largest global norm; null clips nothing
 * @returns the global norm before clipping, a scalar on the device that the caller owns
 */
export function applyGradients(
  gradients: Gradients,
  options: {
    readonly parameters: TrainingParameters;
    readonly names: readonly string[];
    readonly decays: ReadonlyMap<string, boolean>;
    readonly optimizer: Optimizer;
    readonly learningRate: number;
    readonly clipNorm: number | null;
  },
): tf.Scalar {
  const { parameters, decays, optimizer, learningRate, clipNorm } = options;
  const names = options.names.filter((name) => gradients.has(name));
  const ordered = names.map((name) => gradients.get(name)!);
  const norm = globalNorm(ordered);
  if (clipNorm !== null) clipByGlobalNorm(ordered, norm, clipNorm);
  const updates = names.map(
    (name, index): ParameterUpdate => ({
      name,
      state: parameters.get(name)!,
      gradient: ordered[index]!,
      decay: decays.get(name)!,
    }),
  );
  optimizer.update(updates, learningRate);
  tf.dispose(ordered);
  return norm;
}
