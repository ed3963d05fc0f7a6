import { UsageError } from "./errors.js";

/** What is being grown, at one point of the trajectory. `depth` counts unique layers. */
export interface ModelShape {
  readonly depth: number;
  readonly hiddenSize: number;
  readonly attentionHeads: number;
  readonly intermediateSize: number;
}

/** The axes of a {@link ModelShape}, in their usual order. */
export const shapeAxes = ["depth", "hiddenSize", "attentionHeads", "intermediateSize"] as const;

/** Everything that a model family needs to make its parameters and run: a shape and what does not grow. */
export interface ModelConfig extends ModelShape {
  /** The {@link ModelFamily}'s name. */
  readonly family: string;
  readonly vocabSize: number;
  /** Learned positions, at least the sequence length. */
  readonly maxPositions: number;
  /** Probability of dropping, for embeddings, attention probabilities and residual branches. */
  readonly dropout: number;
  readonly layerNormEpsilon: number;
  /** Standard deviation of the initial weights. */
  readonly initializerRange: number;
  /** BERT's token types; 0 where the family has none. */
  readonly tokenTypes: number;
  /** Where dropping on attention probabilities differs from `dropout`. */
  readonly attentionDropout?: number;
  /** Where dropping on embeddings differs from `dropout`. */
  readonly embeddingDropout?: number;
  /**
   * A token whose embedding gets no gradient from its look-up (Hugging Face's `padding_idx`); null for none. Where it is
   * left out, the family's own default.
   */
  readonly padToken?: number | null;
}

/** The shape part of a config. */
export function shapeOf(config: ModelShape): ModelShape {
  const { depth, hiddenSize, attentionHeads, intermediateSize } = config;
  return { depth, hiddenSize, attentionHeads, intermediateSize };
}

/** Whether two shapes are the same. */
export function sameShape(a: ModelShape, b: ModelShape): boolean {
  return shapeAxes.every((axis) => a[axis] === b[axis]);
}

/** `12×768, 12 heads, intermediate 3072` */
export function formatShape(shape: ModelShape): string {
  return `${shape.depth}×${shape.hiddenSize}, ${shape.attentionHeads} ${shape.attentionHeads === 1 ? "head" : "heads"}, intermediate ${shape.intermediateSize}`;
}

/**
 * Refuses a shape that no Transformer can have.
 *
 * @param key where the shape stands in a definition, for the message
 * @throws UsageError ESPALIER_SHAPE_INVALID
 */
export function checkShape(shape: ModelShape, key = "model"): void {
  for (const axis of shapeAxes) {
    const value = shape[axis];
    if (!Number.isSafeInteger(value) || value < 1)
      throw new UsageError(
        "ESPALIER_SHAPE_INVALID",
        `${key}.${axis} must be a whole number of at least 1, but is ${value}`,
        { key: `${key}.${axis}` },
      );
  }
  if (shape.hiddenSize % shape.attentionHeads !== 0)
    throw new UsageError(
      "ESPALIER_SHAPE_INVALID",
      `${key}.hiddenSize (${shape.hiddenSize}) is not divisible by ${key}.attentionHeads (${shape.attentionHeads})`,
      {
        key: `${key}.hiddenSize`,
        hint: `heads that divide ${shape.hiddenSize}: ${divisors(shape.hiddenSize).join(", ")}`,
      },
    );
}

function divisors(value: number): number[] {
  const found: number[] = [];
  for (let candidate = 1; candidate <= Math.min(value, 64); candidate++)
    if (value % candidate === 0) found.push(candidate);
  return found;
}
