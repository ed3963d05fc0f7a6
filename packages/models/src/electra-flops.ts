import type { ModelConfig } from "@espalier/core";

/** Parts of a sequence's forward pass in the ELECTRA convention. */
export interface ElectraFlops {
  /** One layer. */
  readonly block: number;
  readonly inputEmbedding: number;
  readonly output: number;
}

// FLOPs an element in that convention.
const dropout = 4;
const layerNorm = 5;
const activation = 8;
const softmax = 5;

/**
 * FLOPs of one sequence by the convention of ELECTRA's counter (Clark et al. 2020), which LiGO's published figures use
 * (Wang et al. 2023): element-wise work counts, the embedding look-up counts as a dense product, and only a share of the
 * positions reaches the output. It differs from `ModelFamily.cost`; use it to compare with those papers.
 *
 * The first layer norm of a block counts 5 FLOPs a position, not 5 an element: so does the published counter, and its
 * totals are what is compared with.
 *
 * @param outputFraction share of positions whose output is computed
 */
export function electraFlops(
  config: ModelConfig,
  sequenceLength: number,
  outputFraction = 0.15625,
): ElectraFlops {
  const { hiddenSize: h, intermediateSize: i, attentionHeads: heads, vocabSize: v } = config;
  const s = sequenceLength;
  const attention =
    3 * (2 * h * h + h) + // query, key, value
    2 * (2 * h * s) + // scores, weighted values
    (softmax + dropout + 1) * s * heads + // 1: scaling
    (2 * h * h + h + dropout * h + h) + // projection, bias, dropout, residual
    layerNorm;
  const feedForward = 2 * (2 * h * i) + (activation + 1) * i + (1 + dropout + 1 + layerNorm) * h; // biases, activation, dropout, residual
  const lookup = 2 * h * v + 2 * h * (s + 2) + (2 + layerNorm + dropout) * h;
  const output = 2 * h * v + (2 * h * h + h) + (activation + layerNorm) * h + (softmax + 2) * v;
  return {
    block: s * (attention + feedForward),
    inputEmbedding: s * lookup,
    output: outputFraction * s * output,
  };
}

/** FLOPs of a whole training in the ELECTRA convention, where backward costs as much as forward. */
export function electraTrainingFlops(
  config: ModelConfig,
  run: {
    readonly sequenceLength: number;
    readonly batchSize: number;
    readonly steps: number;
    readonly outputFraction?: number;
  },
): number {
  const { block, inputEmbedding, output } = electraFlops(config, run.sequenceLength, run.outputFraction);
  return 2 * run.batchSize * run.steps * (config.depth * block + inputEmbedding + output);
}
