import * as tf from "@tensorflow/tfjs";

/** A computed value, and how its gradient is computed from what it saved. */
export interface Differentiable<Value extends tf.Tensor> {
  readonly value: Value;
  /** What `backward` needs. Shares data with the given tensors, and is held until `backward` has run. */
  readonly saved: readonly tf.Tensor[];
  /**
   * Gradients of the inputs, in their order. They must be tensors of their own: not `dy`, not a saved tensor, and not
   * the same tensor twice (clones are fine).
   */
  backward(dy: Value, saved: readonly tf.Tensor[]): tf.Tensor[];
}

/**
 * One node on TensorFlow.js's tape with a hand-written gradient.
 *
 * The tape by itself frees nothing before the whole backward pass is over. Here a node frees what it saved, and the
 * gradient that came in, as soon as its own gradients are computed: peak memory is then what the forward pass saved.
 *
 * @param inputs the tensors that get a gradient
 * @param compute the forward pass; what it makes beside value and saved tensors is disposed
 */
export function differentiable<Value extends tf.Tensor>(
  inputs: readonly tf.Tensor[],
  compute: () => Differentiable<Value>,
): Value {
  const operation = tf.customGrad<Value>((...given) => {
    const save = given.at(-1);
    if (typeof save !== "function") throw new TypeError("customGrad gives its save function last");
    const { value, saved, backward } = compute();
    save([...saved]);
    return {
      value,
      gradFunc: (dy, kept) => {
        const gradients = tf.tidy(() => backward(dy, kept));
        releaseAfterBackward(dy, kept);
        return gradients;
      },
    };
  });
  return operation(...inputs);
}

// A gradient that the backward pass made itself lives in its scope; one that the caller passed in does not and is left
// alone. Within nested tapes (gradients of gradients) everything may be needed again.
function releaseAfterBackward(dy: tf.Tensor, kept: readonly tf.Tensor[]): void {
  const { activeScope, gradientDepth } = tf.engine().state;
  if (gradientDepth > 0) return;
  for (const tensor of kept) tensor.dispose();
  if (dy.scopeId === activeScope.id) dy.dispose();
}
