import * as tf from "@tensorflow/tfjs";
import { type Differentiable, differentiable } from "./differentiable.js";
import { drop, dropGradient } from "./dropout.js";
import { type FusedKernel, fusedKernel } from "./kernel.js";

/** How one call of attention runs. */
export interface AttentionOptions {
  readonly sequenceLength: number;
  readonly heads: number;
  /** Whether a position sees only itself and what is before it. */
  readonly causal: boolean;
  /** Added to the scores, see {@link paddingMask}: `[batch, 1, 1, seq]`, or null where nothing is padded. */
  readonly mask: tf.Tensor4D | null;
  /** Dropout on the probabilities, or null. */
  readonly dropout: { readonly rate: number; readonly seed: number } | null;
}

/**
 * 0 where a key may be seen and −10⁹ where it is padding. Finite, so that a row that sees nothing but padding (padding
 * on the left of a causal model) is no NaN.
 *
 * @param attentionMask `[batch, seq]`, 1 for a real token
 * @returns `[batch, 1, 1, seq]`
 */
export function paddingMask(attentionMask: tf.Tensor2D): tf.Tensor4D {
  const [batch, sequenceLength] = attentionMask.shape;
  return tf.tidy(() => attentionMask.sub(1).mul(1e9).reshape([batch, 1, 1, sequenceLength]));
}

/**
 * Scaled dot-product attention (Vaswani et al. 2017, eq. 1) over heads that lie side by side.
 *
 * @param query `[batch · seq, heads · channels]`, and so are `key` and `value`
 * @returns `[batch · seq, heads · channels]`
 */
export function attention(
  query: tf.Tensor2D,
  key: tf.Tensor2D,
  value: tf.Tensor2D,
  options: AttentionOptions,
): tf.Tensor2D {
  return differentiable([query, key, value], () => {
    const { output, saved, backward } = attend(query, key, value, options);
    return {
      value: output,
      saved: [query, key, value, ...saved],
      backward: (dy, [query, key, value, ...saved]) =>
        backward(dy, query as tf.Tensor2D, key as tf.Tensor2D, value as tf.Tensor2D, saved),
    };
  });
}

/**
 * {@link attention} with query, key and value side by side in one tensor, as GPT-2's `c_attn` makes them.
 *
 * @param packed `[batch · seq, 3 · heads · channels]`
 * @returns `[batch · seq, heads · channels]`
 */
export function packedAttention(packed: tf.Tensor2D, options: AttentionOptions): tf.Tensor2D {
  const kernel = fusedKernel("EspalierPackedAttention");
  const gradientKernel = fusedKernel("EspalierPackedAttentionGrad");
  return differentiable([packed], () =>
    kernel && gradientKernel
      ? attendPacked(packed, options, kernel, gradientKernel)
      : attendSplit(packed, options),
  );
}

/** The engine's own kernel: dropout is its business, too, and no head is copied apart. */
function attendPacked(
  packed: tf.Tensor2D,
  { heads, sequenceLength, causal, mask, dropout }: AttentionOptions,
  kernel: FusedKernel,
  gradientKernel: FusedKernel,
): Differentiable<tf.Tensor2D> {
  const attributes = {
    heads,
    sequenceLength,
    causal,
    scale: Math.sqrt((3 * heads) / packed.shape[1]),
    rate: dropout?.rate ?? 0,
    seed: dropout?.seed ?? 0,
  };
  const masked: tf.NamedTensorMap = mask === null ? {} : { mask };
  const [y, ...state] = kernel({ packed, ...masked }, attributes) as [tf.Tensor2D, ...tf.Tensor[]];
  return {
    value: y,
    saved: [packed, y, ...state, ...(mask === null ? [] : [mask])],
    backward(dy, saved) {
      const [packed, y, logsumexp, ...rest] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, ...tf.Tensor[]];
      const masked: tf.NamedTensorMap = mask === null ? {} : { mask: rest.pop() as tf.Tensor };
      // Where the device's generator stood, if it drew.
      const [philoxSeed, philoxOffset] = rest;
      const drawn: tf.NamedTensorMap = philoxSeed && philoxOffset ? { philoxSeed, philoxOffset } : {};
      return gradientKernel({ dy, packed, y, logsumexp, ...masked, ...drawn }, attributes);
    },
  };
}

function attendSplit(packed: tf.Tensor2D, options: AttentionOptions): Differentiable<tf.Tensor2D> {
  const [query, key, value] = tf.split(packed, 3, 1) as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
  const { output, saved, backward } = attend(query, key, value, options);
  return {
    value: output,
    saved: [packed, ...saved],
    backward(dy, [packed, ...saved]) {
      const [query, key, value] = tf.split(packed as tf.Tensor2D, 3, 1) as [
        tf.Tensor2D,
        tf.Tensor2D,
        tf.Tensor2D,
      ];
      return [tf.concat(backward(dy, query, key, value, saved), 1)];
    },
  };
}

interface Attended {
  readonly output: tf.Tensor2D;
  readonly saved: readonly tf.Tensor[];
  backward(
    dy: tf.Tensor2D,
    query: tf.Tensor2D,
    key: tf.Tensor2D,
    value: tf.Tensor2D,
    saved: readonly tf.Tensor[],
  ): [dQuery: tf.Tensor2D, dKey: tf.Tensor2D, dValue: tf.Tensor2D];
}

function attend(
  query: tf.Tensor2D,
  key: tf.Tensor2D,
  value: tf.Tensor2D,
  options: AttentionOptions,
): Attended {
  // The kernels do not drop: with dropout the probabilities have to be there.
  if (options.dropout === null) {
    const kernel = fusedKernel("EspalierAttention");
    const gradientKernel = fusedKernel("EspalierAttentionGrad");
    if (kernel && gradientKernel) return attendFused(query, key, value, options, kernel, gradientKernel);
  }
  return attendComposed(query, key, value, options);
}

function attendFused(
  query: tf.Tensor2D,
  key: tf.Tensor2D,
  value: tf.Tensor2D,
  { heads, sequenceLength, causal, mask }: AttentionOptions,
  kernel: FusedKernel,
  gradientKernel: FusedKernel,
): Attended {
  const attributes = { causal, scale: Math.sqrt(heads / query.shape[1]) };
  const masked: tf.NamedTensorMap = mask === null ? {} : { mask };
  const [q, k, v] = splitHeads([query, key, value], heads, sequenceLength);
  const [y, logsumexp] = kernel({ q: q!, k: k!, v: v!, ...masked }, attributes);
  return {
    output: mergeHeads(y as tf.Tensor4D),
    saved: mask === null ? [y!, logsumexp!] : [y!, logsumexp!, mask],
    backward(dOutput, query, key, value, [y, logsumexp, mask]) {
      const [dy, q, k, v] = splitHeads([dOutput, query, key, value], heads, sequenceLength);
      const inputs = { dy: dy!, q: q!, k: k!, v: v!, y: y!, logsumexp: logsumexp! };
      const gradients = gradientKernel(mask === undefined ? inputs : { ...inputs, mask }, attributes);
      const [dq, dk, dv] = gradients as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D];
      return [mergeHeads(dq), mergeHeads(dk), mergeHeads(dv)];
    },
  };
}

function attendComposed(
  query: tf.Tensor2D,
  key: tf.Tensor2D,
  value: tf.Tensor2D,
  { heads, sequenceLength, causal, mask, dropout }: AttentionOptions,
): Attended {
  const scale = Math.sqrt(heads / query.shape[1]);
  const [q, k, v] = splitHeads([query, key, value], heads, sequenceLength);
  const probabilities = tf.tidy(() => {
    let scores = tf.matMul(q!, k!, false, true).mul(scale);
    if (mask !== null) scores = scores.add(mask);
    if (causal) scores = scores.add(futureMask(sequenceLength));
    return tf.softmax(scores);
  });
  const [dropped, keep] = dropout ? drop(probabilities, dropout.rate, dropout.seed) : [probabilities, null];
  return {
    output: mergeHeads(tf.matMul(dropped, v!)),
    saved: keep === null ? [probabilities] : [probabilities, keep],
    backward(dOutput, query, key, value, [probabilities, keep]) {
      const [dy, q, k, v] = splitHeads([dOutput, query, key, value], heads, sequenceLength);
      const undrop = (tensor: tf.Tensor) =>
        dropout && keep ? dropGradient(tensor, keep, dropout.rate) : tensor;
      const dv = tf.tidy(() => tf.matMul<tf.Tensor4D>(undrop(probabilities!), dy!, true));
      const dScores = tf.tidy(() => {
        const weighted = undrop(tf.matMul(dy!, v!, false, true)).mul(probabilities!);
        return weighted.sub(probabilities!.mul(weighted.sum(-1, true))).mul(scale);
      });
      const dq = tf.matMul<tf.Tensor4D>(dScores, k!);
      const dk = tf.matMul<tf.Tensor4D>(dScores, q!, true);
      return [mergeHeads(dq), mergeHeads(dk), mergeHeads(dv)];
    },
  };
}

/** `[seq, seq]`: 0 on and below the diagonal, −∞ above. */
function futureMask(sequenceLength: number): tf.Tensor2D {
  const positions = tf.range(0, sequenceLength, 1, "int32");
  const seen = positions.expandDims(1).greaterEqual(positions.expandDims(0));
  return tf.where<tf.Tensor>(seen, tf.scalar(0), tf.scalar(Number.NEGATIVE_INFINITY)) as tf.Tensor2D;
}

/** `[batch · seq, heads · channels]` → `[batch, heads, seq, channels]` */
function splitHeads(tensors: readonly tf.Tensor2D[], heads: number, sequenceLength: number): tf.Tensor4D[] {
  return tensors.map((tensor) => {
    const [rows, width] = tensor.shape;
    return tensor
      .reshape<tf.Tensor4D>([rows / sequenceLength, sequenceLength, heads, width / heads])
      .transpose([0, 2, 1, 3]);
  });
}

/** `[batch, heads, seq, channels]` → `[batch · seq, heads · channels]` */
function mergeHeads(tensor: tf.Tensor4D): tf.Tensor2D {
  const [batch, heads, sequenceLength, channels] = tensor.shape;
  return tensor.transpose([0, 2, 1, 3]).reshape([batch * sequenceLength, heads * channels]);
}
