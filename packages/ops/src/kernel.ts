import * as tf from "@tensorflow/tfjs";
import type { NamedAttrMap } from "@tensorflow/tfjs-core";

let composedOnly = false;

/** A kernel that the active engine brings for one of our operations. */
export type FusedKernel = (inputs: tf.NamedTensorMap, attributes: NamedAttrMap) => tf.Tensor[];

/**
 * The active engine's own kernel for an operation, or null where it has none and the composed fallback runs.
 *
 * @param name one of the `Espalier…` kernel names
 */
export function fusedKernel(name: string): FusedKernel | null {
  if (composedOnly || tf.getKernel(name, tf.getBackend()) === undefined) return null;
  return (inputs, attributes) => {
    const outputs = tf.engine().runKernel<tf.Tensor | tf.Tensor[]>(name, inputs, attributes);
    return Array.isArray(outputs) ? outputs : [outputs];
  };
}

/**
 * Runs `compute` with the composed fallbacks only, also where the engine has fused kernels: what these are tested
 * against.
 */
export function withoutFusedKernels<Result>(compute: () => Result): Result {
  const before = composedOnly;
  composedOnly = true;
  try {
    return compute();
  } finally {
    composedOnly = before;
  }
}
