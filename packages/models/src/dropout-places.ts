import type { ModelConfig, RandomStream } from "@espalier/core";

/** Where a model drops. */
export type DropoutPlace =
  | "embeddings"
  | "attention-probabilities"
  | "attention-output"
  | "feed-forward-output";

/** Embeddings count as layer −1. */
export const embeddingsLayer = -1;

/** Rate and seed of one dropout; the rate is 0 where nothing is dropped. */
export interface DropoutChoice {
  readonly rate: number;
  readonly seed: number;
}

/**
 * The dropout of each place of one forward pass. A seed depends on the micro-step's stream, the executed layer and the
 * place alone: a shared layer gets another mask at each of its uses, and no place's mask depends on what was drawn
 * elsewhere.
 */
export function dropoutPlaces(
  config: ModelConfig,
  stream: RandomStream | null,
): (executedLayer: number, place: DropoutPlace) => DropoutChoice {
  const rates: { readonly [Place in DropoutPlace]: number } = {
    embeddings: config.embeddingDropout ?? config.dropout,
    "attention-probabilities": config.attentionDropout ?? config.dropout,
    "attention-output": config.dropout,
    "feed-forward-output": config.dropout,
  };
  return (executedLayer, place) => {
    if (stream === null || rates[place] === 0) return { rate: 0, seed: 0 };
    return { rate: rates[place], seed: stream.fork(executedLayer).fork(place).uint32() };
  };
}
