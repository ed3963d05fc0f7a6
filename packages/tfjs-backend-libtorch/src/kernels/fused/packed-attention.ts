import type { TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { ownOperator } from "../../aten.js";
import { type Frame, type Kernel, kernel } from "../../kernel.js";

const operators = {
  attention: ownOperator("packed_attention"),
  backward: ownOperator("packed_attention_backward"),
};

interface PackedAttentionAttributes {
  heads: number;
  sequenceLength: number;
  /** Whether a position sees only itself and those before it. */
  causal: boolean;
  /** Multiplies the scores, usually 1 / sqrt(channels of a head). */
  scale: number;
  /** Dropout on the probabilities, in [0, 1). */
  rate: number;
  /** Of dropout: uint32 */
  seed: number;
}

interface PackedAttentionInputs {
  /** Query, key and value side by side: [batch · seq, 3 · heads · channels]; its element type is the result's. */
  packed: TensorInfo;
  /** Added to the scores: [batch, 1, 1, seq] */
  mask?: TensorInfo;
}

function optional(frame: Frame, info: TensorInfo | undefined): NativeTensor | null {
  return info === undefined ? null : frame.tensor(info);
}

function settings(attrs: PackedAttentionAttributes) {
  const { heads, sequenceLength, causal, scale, rate, seed } = attrs;
  return [heads, sequenceLength, causal, scale, rate, seed] as const;
}

/** What a GPU's generator drew from travels as tensors that nobody reads; TensorFlow.js has no wider integer. */
const GENERATOR_STATE_DTYPE = "int32";

/**
 * → [y [batch · seq, heads · channels], logsumexp, and on a GPU where its dropout's generator stood]. Everything beside
 * y is for the gradient alone: its shape is the device's business.
 */
const attention = kernel<PackedAttentionInputs, PackedAttentionAttributes>(
  "EspalierPackedAttention",
  (frame, { packed, mask }, attrs) => {
    const [y, logsumexp, ...state] = frame.callList(
      operators.attention,
      frame.tensor(packed),
      optional(frame, mask),
      ...settings(attrs),
    );
    if (!y || !logsumexp) throw new Error("espalier::packed_attention gave no result");
    return [
      frame.output(y, "float32"),
      frame.output(logsumexp, "float32"),
      ...state.filter((drawn) => drawn !== null).map((drawn) => frame.output(drawn, GENERATOR_STATE_DTYPE)),
    ];
  },
);

interface PackedAttentionGradInputs extends PackedAttentionInputs {
  dy: TensorInfo;
  y: TensorInfo;
  logsumexp: TensorInfo;
  philoxSeed?: TensorInfo;
  philoxOffset?: TensorInfo;
}

/** → the gradient of `packed`, in its layout */
const attentionGrad = kernel<PackedAttentionGradInputs, PackedAttentionAttributes>(
  "EspalierPackedAttentionGrad",
  (frame, inputs, attrs) => {
    const gradient = frame.call(
      operators.backward,
      frame.tensor(inputs.dy),
      frame.tensor(inputs.packed),
      frame.tensor(inputs.y),
      frame.tensor(inputs.logsumexp),
      optional(frame, inputs.mask),
      ...settings(attrs),
      optional(frame, inputs.philoxSeed),
      optional(frame, inputs.philoxOffset),
    );
    return frame.output(gradient, "float32");
  },
);

/** Attention on query, key and value side by side, with dropout, and its gradient. */
export const packedAttentionKernels: readonly Kernel[] = [attention, attentionGrad];
