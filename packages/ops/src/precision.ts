import type { Precision } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";

/**
 * Whether the active engine computes linear layers and attention in a precision. Every engine has fp32; one that has
 * more lists them as `precisions` of its TensorFlow.js backend.
 */
export function supportsPrecision(precision: Precision): boolean {
  if (precision === "fp32") return true;
  const { precisions } = tf.backend() as { readonly precisions?: readonly string[] };
  return precisions?.includes(precision) ?? false;
}
