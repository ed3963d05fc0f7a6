import type * as tf from "@tensorflow/tfjs";
import { differentiable } from "./differentiable.js";
import { fusedKernel } from "./kernel.js";

/**
 * Layer normalisation over the last axis (Ba et al. 2016): gain · (x − mean) / √(variance + ε) + bias.
 *
 * @param x `[rows, hidden]`
 * @param gain `[hidden]`
 * @param bias `[hidden]`
 * @returns `[rows, hidden]`
 */
export function layerNorm(
  x: tf.Tensor2D,
  gain: tf.Tensor1D,
  bias: tf.Tensor1D,
  epsilon: number,
): tf.Tensor2D {
  return differentiable([x, gain, bias], () => {
    const kernel = fusedKernel("EspalierLayerNorm");
    const gradientKernel = fusedKernel("EspalierLayerNormGrad");
    if (kernel && gradientKernel) {
      const [value, mean, rstd] = kernel({ x, gain, bias }, { epsilon });
      return {
        value: value as tf.Tensor2D,
        saved: [x, gain, bias, mean!, rstd!],
        backward: (dy, [x, gain, bias, mean, rstd]) =>
          gradientKernel({ dy, x: x!, gain: gain!, bias: bias!, mean: mean!, rstd: rstd! }, { epsilon }),
      };
    }
    const mean = x.mean(1, true);
    const centred = x.sub(mean);
    const rstd = centred.square().mean(1, true).add(epsilon).rsqrt();
    return {
      value: centred.mul(rstd).mul<tf.Tensor2D>(gain).add(bias),
      saved: [x, gain, mean, rstd],
      backward(dy, saved) {
        const [x, gain, mean, rstd] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
        const normal = x.sub(mean).mul(rstd);
        const dNormal = dy.mul(gain);
        const along = dNormal.mul(normal).mean(1, true);
        const dx = dNormal.sub(dNormal.mean(1, true)).sub(normal.mul(along)).mul(rstd);
        return [dx, dy.mul(normal).sum(0), dy.sum(0)];
      },
    };
  });
}
