import * as tf from "@tensorflow/tfjs";
import { differentiable } from "./differentiable.js";
import { fusedKernel } from "./kernel.js";

/**
 * Mean over rows of −log softmax(logits)[label].
 *
 * @param logits `[counted, vocabulary]`
 * @param labels int32 `[counted]`
 * @returns scalar
 */
export function softmaxCrossEntropy(logits: tf.Tensor2D, labels: tf.Tensor1D): tf.Scalar {
  const [rows, vocabulary] = logits.shape;
  return differentiable<tf.Scalar>([logits], () => {
    const kernel = fusedKernel("EspalierSoftmaxCrossEntropy");
    const gradientKernel = fusedKernel("EspalierSoftmaxCrossEntropyGrad");
    if (kernel && gradientKernel) {
      const [loss, logProbabilities] = kernel({ logits, labels }, {});
      return {
        value: loss as tf.Scalar,
        saved: [logProbabilities!, labels],
        backward: (dLoss, [logProbabilities, labels]) =>
          gradientKernel({ dLoss, logProbabilities: logProbabilities!, labels: labels! }, {}),
      };
    }
    const shifted = logits.sub<tf.Tensor2D>(logits.max(1, true));
    const logProbabilities = shifted.sub<tf.Tensor2D>(shifted.exp().sum(1, true).log());
    const firstOfRow = tf.range(0, rows * vocabulary, vocabulary, "int32");
    return {
      value: logProbabilities.flatten().gather(firstOfRow.add<tf.Tensor1D>(labels)).mean<tf.Scalar>().neg(),
      saved: [logProbabilities, labels],
      backward(dLoss, saved) {
        const [logProbabilities, labels] = saved as [tf.Tensor2D, tf.Tensor1D];
        const wanted = tf.oneHot(labels, vocabulary).cast("float32");
        return [logProbabilities.exp().sub(wanted).mul(dLoss.div(rows))];
      },
    };
  });
}
