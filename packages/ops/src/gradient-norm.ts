import * as tf from "@tensorflow/tfjs";
import { fusedKernel } from "./kernel.js";

/** L2 norm of all elements of all tensors together: a scalar on the device, nothing is read back. */
export function globalNorm(tensors: readonly tf.Tensor[]): tf.Scalar {
  if (tensors.length === 0) return tf.scalar(0);
  const kernel = fusedKernel("EspalierGlobalNorm");
  if (kernel) return kernel(numbered(tensors), { count: tensors.length })[0] as tf.Scalar;
  return tf.tidy(() => {
    const squares = tensors.map((tensor) => tf.tidy(() => tensor.square().sum().reshape<tf.Tensor1D>([1])));
    return tf.concat(squares).sum<tf.Scalar>().sqrt();
  });
}

/**
 * Multiplies every gradient by min(1, maxNorm / (norm + 1e-6)), without a read-back. Entries of `gradients` are changed
 * in place or replaced, the old tensors being disposed; the caller owns what the array holds afterwards.
 *
 * @param norm scalar, of {@link globalNorm}
 */
export function clipByGlobalNorm(gradients: tf.Tensor[], norm: tf.Scalar, maxNorm: number): void {
  if (gradients.length === 0) return;
  const kernel = fusedKernel("EspalierScaleByClip");
  if (kernel) {
    kernel({ norm, ...numbered(gradients) }, { count: gradients.length, maxNorm });
    return;
  }
  const factor = tf.tidy(() => tf.minimum(tf.div(maxNorm, norm.add(1e-6)), 1));
  for (const [index, gradient] of gradients.entries()) {
    gradients[index] = gradient.mul(factor);
    gradient.dispose();
  }
  factor.dispose();
}

function numbered(tensors: readonly tf.Tensor[]): tf.NamedTensorMap {
  return Object.fromEntries(tensors.map((tensor, index) => [`x${index}`, tensor]));
}
