import type { TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { aten } from "../../aten.js";
import { type Frame, type Kernel, kernel } from "../../kernel.js";

const operators = {
  flash: aten("_scaled_dot_product_flash_attention_for_cpu"),
  flashBackward: aten("_scaled_dot_product_flash_attention_for_cpu_backward"),
  matmul: aten("matmul"),
  transpose: aten("transpose.int"),
  mulScalar: aten("mul.Scalar"),
  mul: aten("mul.Tensor"),
  add: aten("add.Tensor"),
  sub: aten("sub.Tensor"),
  unsqueeze: aten("unsqueeze"),
  logsumexp: aten("logsumexp"),
  exp: aten("exp"),
  sum: aten("sum.dim_IntList"),
  full: aten("full"),
  triu: aten("triu"),
};

interface AttentionAttributes {
  /** Whether a position sees only itself and those before it. */
  causal: boolean;
  /** Multiplies the scores, usually 1 / sqrt(headSize). */
  scale: number;
}

interface AttentionInputs {
  q: TensorInfo;
  k: TensorInfo;
  v: TensorInfo;
  /** Added to the scores: [batch, 1, 1, seq] or [batch, 1, seq, seq]. */
  mask?: TensorInfo;
}

const NO_DROPOUT = 0;

/**
 * The scores' logarithms of probability before normalisation [batch, heads, seq, seq], for devices and mixtures of
 * mask and causality for which the CPU's flash kernel does not exist.
 */
function scores(frame: Frame, { q, k, mask }: AttentionInputs, { causal, scale }: AttentionAttributes) {
  const transposed = frame.call(operators.transpose, frame.tensor(k), -2, -1);
  const products = frame.call(operators.matmul, frame.tensor(q), transposed);
  let result = frame.call(operators.mulScalar, products, scale);
  if (mask) result = frame.call(operators.add, result, frame.tensor(mask));
  if (causal) result = frame.call(operators.add, result, future(frame, q, k));
  return result;
}

/** [seq, seq] of 0 where a position may look, -infinity at the positions after it */
function future(frame: Frame, q: TensorInfo, k: TensorInfo): NativeTensor {
  const sizes = [q.shape[2] ?? 0, k.shape[2] ?? 0];
  const hidden = frame.call(
    operators.full,
    sizes,
    Number.NEGATIVE_INFINITY,
    "float32",
    undefined,
    frame.backend.device,
  );
  return frame.call(operators.triu, hidden, 1);
}

/** The mask that the flash kernel takes: it refuses a causal flag beside a mask, so both become one mask. */
function flashMask(frame: Frame, { q, k, mask }: AttentionInputs, causal: boolean): NativeTensor | undefined {
  if (!mask) return undefined;
  const given = frame.tensor(mask);
  return causal ? frame.call(operators.add, given, future(frame, q, k)) : given;
}

/** → [y [batch, heads, seq, headSize], logsumexp of the scores [batch, heads, seq]] */
const attention = kernel<AttentionInputs, AttentionAttributes>(
  "EspalierAttention",
  (frame, inputs, attrs) => {
    const { q, k, v, mask } = inputs;
    if (frame.backend.device === "cpu") {
      const [y, logsumexp] = frame.callList(
        operators.flash,
        frame.tensor(q),
        frame.tensor(k),
        frame.tensor(v),
        NO_DROPOUT,
        attrs.causal && !mask,
        flashMask(frame, inputs, attrs.causal),
        attrs.scale,
      );
      return [frame.output(y as NativeTensor, "float32"), frame.output(logsumexp as NativeTensor, "float32")];
    }
    const given = scores(frame, inputs, attrs);
    const logsumexp = frame.call(operators.logsumexp, given, [-1], false);
    const probabilities = probabilitiesOf(frame, given, logsumexp);
    const y = frame.call(operators.matmul, probabilities, frame.tensor(v));
    return [frame.output(y, "float32"), frame.output(logsumexp, "float32")];
  },
);

function probabilitiesOf(frame: Frame, given: NativeTensor, logsumexp: NativeTensor): NativeTensor {
  const column = frame.call(operators.unsqueeze, logsumexp, -1);
  return frame.call(operators.exp, frame.call(operators.sub, given, column));
}

interface AttentionGradInputs extends AttentionInputs {
  dy: TensorInfo;
  y: TensorInfo;
  logsumexp: TensorInfo;
}

/** → [dq, dk, dv] */
const attentionGrad = kernel<AttentionGradInputs, AttentionAttributes>(
  "EspalierAttentionGrad",
  (frame, inputs, attrs) => {
    const results =
      frame.backend.device === "cpu"
        ? flashGradient(frame, inputs, attrs)
        : composedGradient(frame, inputs, attrs);
    return results.map((result) => frame.output(result as NativeTensor, "float32"));
  },
);

function flashGradient(frame: Frame, inputs: AttentionGradInputs, { causal, scale }: AttentionAttributes) {
  return frame.callList(
    operators.flashBackward,
    frame.tensor(inputs.dy),
    frame.tensor(inputs.q),
    frame.tensor(inputs.k),
    frame.tensor(inputs.v),
    frame.tensor(inputs.y),
    frame.tensor(inputs.logsumexp),
    NO_DROPOUT,
    causal && !inputs.mask,
    flashMask(frame, inputs, causal),
    scale,
  );
}

function composedGradient(frame: Frame, inputs: AttentionGradInputs, attrs: AttentionAttributes) {
  const dy = frame.tensor(inputs.dy);
  const given = scores(frame, inputs, attrs);
  const probabilities = probabilitiesOf(frame, given, frame.tensor(inputs.logsumexp));
  const flipped = (tensor: NativeTensor) => frame.call(operators.transpose, tensor, -2, -1);
  const dv = frame.call(operators.matmul, flipped(probabilities), dy);
  const dProbabilities = frame.call(operators.matmul, dy, flipped(frame.tensor(inputs.v)));
  const inner = frame.call(operators.mul, dy, frame.tensor(inputs.y));
  const delta = frame.call(operators.sum, inner, [-1], true);
  const centered = frame.call(operators.sub, dProbabilities, delta);
  const dScores = frame.call(
    operators.mulScalar,
    frame.call(operators.mul, probabilities, centered),
    attrs.scale,
  );
  const dq = frame.call(operators.matmul, dScores, frame.tensor(inputs.k));
  const dk = frame.call(operators.matmul, flipped(dScores), frame.tensor(inputs.q));
  return [dq, dk, dv];
}

/** Scaled dot-product attention and its gradient. */
export const attentionKernels: readonly Kernel[] = [attention, attentionGrad];
