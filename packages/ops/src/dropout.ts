import * as tf from "@tensorflow/tfjs";
import { differentiable } from "./differentiable.js";
import { fusedKernel } from "./kernel.js";

/**
 * Dropout (Srivastava et al. 2014): each element is dropped with probability `rate`, the others are divided by
 * 1 − rate. The mask is a pure function of shape, rate and seed on a given engine; engines differ from each other.
 *
 * @param x any shape
 * @param rate probability of dropping, 0 ≤ rate < 1; at 0 the result is `x` itself
 * @param seed a 32-bit unsigned integer
 */
export function dropout<T extends tf.Tensor>(x: T, rate: number, seed: number): T {
  if (rate === 0) return x;
  return differentiable<T>([x], () => {
    const [value, keepMask] = drop(x, rate, seed);
    return {
      value: value as T,
      saved: [keepMask],
      backward: (dy, [keep]) => [dropGradient(dy, keep!, rate)],
    };
  });
}

/** Dropout outside of the tape: the value, and the mask of kept elements (bool). */
export function drop(x: tf.Tensor, rate: number, seed: number): [value: tf.Tensor, keepMask: tf.Tensor] {
  const kernel = fusedKernel("EspalierDropout");
  if (kernel) return kernel({ x }, { rate, seed, offset: 0 }) as [tf.Tensor, tf.Tensor];
  const keep = tf.tensor(keepMask(x.size, rate, seed), x.shape, "bool");
  return [dropGradient(x, keep, rate), keep];
}

/** The gradient of {@link drop} is the same masking and scaling. */
export function dropGradient(dy: tf.Tensor, keepMask: tf.Tensor, rate: number): tf.Tensor {
  const kernel = fusedKernel("EspalierDropoutGrad");
  if (kernel) return kernel({ dy, keepMask }, { rate })[0]!;
  return tf.tidy(() => dy.mul(keepMask.cast("float32")).mul(1 / (1 - rate)));
}

/**
 * 1 where an element is kept: a hash of its index, keyed by the seed, against the rate. Counter-based, so that the mask
 * depends on nothing that was drawn before.
 */
export function keepMask(length: number, rate: number, seed: number): Uint8Array {
  const threshold = Math.round(rate * 0x100000000);
  const key0 = mix(seed | 0);
  const key1 = mix(seed ^ 0x9e3779b9);
  const keep = new Uint8Array(length);
  for (let index = 0; index < length; index++)
    keep[index] = mix((mix(index ^ key0) + key1) | 0) >>> 0 >= threshold ? 1 : 0;
  return keep;
}

// A 32-bit integer hash whose every input bit changes every output bit with probability close to 1/2: two
// multiply-xorshift rounds with the constants of C. Wellons' hash-prospector search ("lowbias32", public domain).
function mix(value: number): number {
  let bits = value ^ (value >>> 16);
  bits = Math.imul(bits, 0x7feb352d);
  bits ^= bits >>> 15;
  bits = Math.imul(bits, 0x846ca68b);
  return bits ^ (bits >>> 16);
}
