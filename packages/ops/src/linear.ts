import type { Precision } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { differentiable } from "./differentiable.js";
import { fusedKernel } from "./kernel.js";

/** How a weight lies: `in_out` is `[in, out]` (GPT-2's Conv1D), `out_in` is `[out, in]` (PyTorch's Linear). */
export type WeightLayout = "in_out" | "out_in";

/** A linear layer's parameters: `[in, out]` or `[out, in]`, and `[out]`. */
export interface LinearParameters {
  readonly weight: tf.Tensor2D;
  readonly bias: tf.Tensor1D;
}

/**
 * Linear layer: y = x·W + b.
 *
 * @param x `[rows, in]`
 * @param weight `[in, out]` or `[out, in]`
 * @param bias `[out]`, or null
 * @param precision of the product and its result; engines without bf16 compute in fp32
 * @returns `[rows, out]`
 */
export function linear(
  x: tf.Tensor2D,
  weight: tf.Tensor2D,
  bias: tf.Tensor1D | null,
  weightLayout: WeightLayout,
  precision: Precision = "fp32",
): tf.Tensor2D {
  const inputs = bias === null ? [x, weight] : [x, weight, bias];
  return differentiable(inputs, () => {
    const saved = [x, weight];
    const kernel = fusedKernel("EspalierLinear");
    const gradientKernel = fusedKernel("EspalierLinearGrad");
    if (kernel && gradientKernel) {
      const [value] = kernel(bias === null ? { x, weight } : { x, weight, bias }, {
        weightLayout,
        precision,
      });
      return {
        value: value as tf.Tensor2D,
        saved,
        backward: (dy, [x, weight]) =>
          gradientKernel({ dy, x: x!, weight: weight! }, { weightLayout, precision, hasBias: bias !== null }),
      };
    }
    const outFirst = weightLayout === "out_in";
    const product = tf.matMul<tf.Tensor2D>(x, weight, false, outFirst);
    return {
      value: bias === null ? product : product.add(bias),
      saved,
      backward(dy, saved) {
        const [x, weight] = saved as [tf.Tensor2D, tf.Tensor2D];
        const gradients: tf.Tensor[] = [
          tf.matMul(dy, weight, false, !outFirst),
          outFirst ? tf.matMul(dy, x, true) : tf.matMul(x, dy, true),
        ];
        if (bias !== null) gradients.push(dy.sum(0));
        return gradients;
      },
    };
  });
}

/**
 * Several linear layers of the same input as one product, their results side by side: BERT's query, key and value.
 *
 * @param x `[rows, in]`
 * @param layers weights `[out, in]`
 * @returns `[rows, sum of out]`
 */
export function stackedLinear(
  x: tf.Tensor2D,
  layers: readonly LinearParameters[],
  precision: Precision = "fp32",
): tf.Tensor2D {
  const weights = layers.map((layer) => layer.weight);
  const biases = layers.map((layer) => layer.bias);
  const kernel = fusedKernel("EspalierStackedLinear");
  const gradientKernel = fusedKernel("EspalierStackedLinearGrad");
  if (!kernel || !gradientKernel) return linear(x, tf.concat2d(weights, 0), tf.concat1d(biases), "out_in");
  const attributes = { count: layers.length, precision };
  const numbered = (name: string, tensors: readonly tf.Tensor[]): tf.NamedTensorMap =>
    Object.fromEntries(tensors.map((tensor, index) => [`${name}${index}`, tensor]));
  return differentiable([x, ...weights, ...biases], () => {
    const inputs = { x, ...numbered("weight", weights), ...numbered("bias", biases) };
    return {
      value: kernel(inputs, attributes)[0] as tf.Tensor2D,
      saved: [x, ...weights],
      backward: (dy, [x, ...weights]) =>
        gradientKernel({ dy, x: x!, ...numbered("weight", weights) }, attributes),
    };
  });
}
