import type * as tf from "@tensorflow/tfjs";
import { differentiable } from "./differentiable.js";

/**
 * x + branch, both `[rows, hidden]`. TensorFlow.js's own addition would hold both inputs until the backward pass, which
 * needs neither.
 */
export function addResidual(x: tf.Tensor2D, branch: tf.Tensor2D): tf.Tensor2D {
  return differentiable([x, branch], () => ({
    value: x.add(branch),
    saved: [],
    backward: (dy) => [dy.clone(), dy.clone()],
  }));
}
