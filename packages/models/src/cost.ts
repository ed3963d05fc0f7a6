import type {
  ComputeOptions,
  MemoryCost,
  ModelConfig,
  ParameterSpec,
  StepCost,
  StepLoad,
} from "@espalier/core";

/** What a family's head does beside the decoder. */
export interface HeadKind {
  /** BERT's dense layer `[hidden, hidden]` before the decoder. */
  readonly headTransform: boolean;
}

/**
 * FLOPs of one micro-step in closed form: every matrix product that runs at 2·m·n·k, and nothing else. Causal attention
 * counts in full, as its products are computed; the head counts at the counted positions; backward is 2 × forward.
 */
export function stepCost(config: ModelConfig, load: StepLoad, head: HeadKind): StepCost {
  const forwardFlops =
    load.executedLayers * layerFlops(config, load.batchSize, load.sequenceLength) +
    headFlops(config, load.countedPositions, head);
  return { forwardFlops, trainingFlops: 3 * forwardFlops };
}

/** One layer: four projections `[h, h]`, two products of attention, two feed-forward products. */
function layerFlops(config: ModelConfig, batchSize: number, sequenceLength: number): number {
  const { hiddenSize, intermediateSize } = config;
  const positions = batchSize * sequenceLength;
  const projections = 4 * 2 * positions * hiddenSize * hiddenSize;
  const attention = 2 * 2 * positions * sequenceLength * hiddenSize;
  const feedForward = 2 * 2 * positions * hiddenSize * intermediateSize;
  return projections + attention + feedForward;
}

function headFlops(config: ModelConfig, counted: number, head: HeadKind): number {
  const transform = head.headTransform ? 2 * counted * config.hiddenSize * config.hiddenSize : 0;
  return transform + 2 * counted * config.hiddenSize * config.vocabSize;
}

const float = 4;

const bf16 = 2;

/**
 * Bytes that training holds. Parameters, gradients and moments are exact and float32; activations are what the tape
 * saves: per layer eight `[batch · seq, hidden]` and two `[batch · seq, intermediate]`, with dropout also the masks (a
 * byte an element) and the attention probabilities, which fused attention does not keep. In bf16 the residual stream
 * (four of the eight) stays float32, what goes in and out of linear layers and attention takes half, and the weights
 * have a copy in bf16. With recomputation each layer keeps its input, and one at a time all of the above.
 */
export function memoryCost(
  specs: readonly ParameterSpec[],
  config: ModelConfig,
  load: StepLoad,
  head: HeadKind,
  { precision = "fp32", recompute = false }: ComputeOptions = {},
): MemoryCost {
  const elements = specs.reduce((sum, { shape }) => sum + shape.reduce((size, axis) => size * axis, 1), 0);
  const { hiddenSize, intermediateSize, vocabSize } = config;
  const positions = load.batchSize * load.sequenceLength;
  const scores = positions * load.sequenceLength * config.attentionHeads;

  const inner = precision === "bf16" ? bf16 : float;
  let layer =
    positions *
    (float * (4 * hiddenSize + config.attentionHeads) + inner * (4 * hiddenSize + 2 * intermediateSize));
  if (config.dropout > 0) layer += 2 * positions * hiddenSize;
  if ((config.attentionDropout ?? config.dropout) > 0) layer += (inner + 1) * scores;
  const embeddings = float * 2 * positions * hiddenSize;
  const logits = float * load.countedPositions * (2 * vocabSize + (head.headTransform ? 3 : 1) * hiddenSize);
  const copies = precision === "bf16" ? bf16 * elements : 0;
  const layers = recompute
    ? load.executedLayers * float * positions * hiddenSize + layer
    : load.executedLayers * layer;
  return {
    parameters: float * elements,
    gradients: float * elements,
    optimizer: float * (2 * elements + specs.length),
    activations: layers + embeddings + logits + copies,
  };
}
