import * as tf from "@tensorflow/tfjs";
import { differentiable } from "./differentiable.js";
import { fusedKernel } from "./kernel.js";

/** How a weight lies: `in_out` is `[in, out]` (GPT-2's Conv1D), `out_in` is `[out, in]` (PyTorch's Linear). */
export type WeightLayout = "in_out" | "out_in";

/**
 * Linear layer: y = x·W + b.
 *
 * @param x `[rows, in]`
 * @param weight `[in, out]` or `[out, in]`
 * @param bias `[out]`, or null
 * @returns `[rows, out]`
 */
export function linear(
  x: tf.Tensor2D,
  weight: tf.Tensor2D,
  bias: tf.Tensor1D | null,
  weightLayout: WeightLayout,
): tf.Tensor2D {
  const inputs = bias === null ? [x, weight] : [x, weight, bias];
  return differentiable(inputs, () => {
    const saved = [x, weight];
    const kernel = fusedKernel("EspalierLinear");
    const gradientKernel = fusedKernel("EspalierLinearGrad");
    if (kernel && gradientKernel) {
      const [value] = kernel(bias === null ? { x, weight } : { x, weight, bias }, { weightLayout });
      return {
        value: value as tf.Tensor2D,
        saved,
        backward: (dy, [x, weight]) =>
          gradientKernel({ dy, x: x!, weight: weight! }, { weightLayout, hasBias: bias !== null }),
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
