import {
  identityLayerMap,
  type ModelConfig,
  type ModelFamily,
  type ParameterMap,
  type RandomStream,
  UsageError,
} from "@espalier/core";
import * as tf from "@tensorflow/tfjs";

/** How text is continued. */
export interface GenerationOptions {
  readonly family: ModelFamily;
  readonly config: ModelConfig;
  readonly weights: ParameterMap;
  /** Token ids; at least one. */
  readonly prompt: readonly number[];
  readonly newTokens: number;
  /** 0 takes the likeliest token; 1 draws from the model's own distribution. */
  readonly temperature: number;
  /** Draw among this many likeliest tokens only; null for all. */
  readonly topK: number | null;
  /** Ends the text, where it is drawn. */
  readonly endOfText: number | null;
  readonly random: RandomStream;
  readonly signal?: AbortSignal;
}

/**
 * Continues a prompt with a causal model, token by token. Beyond the model's positions the window moves on.
 *
 * @returns the new tokens, each as soon as it is drawn, without the end of text
 * @throws UsageError ESPALIER_GENERATION if the model is not causal, or an option is impossible
 */
export async function* generate(options: GenerationOptions): AsyncGenerator<number> {
  const { family, config, weights, prompt, newTokens, temperature, topK, endOfText, random } = options;
  const refuse = (key: string, what: string): UsageError =>
    new UsageError("ESPALIER_GENERATION", `${key} ${what}`, { key });
  if (!family.causal)
    throw refuse(
      "model",
      `is of the family ${family.name}, which predicts masked tokens and continues no text`,
    );
  if (prompt.length === 0) throw refuse("prompt", "has no token");
  if (!(temperature >= 0)) throw refuse("temperature", `must be at least 0, but is ${temperature}`);
  if (topK !== null && (!Number.isSafeInteger(topK) || topK < 1))
    throw refuse("topK", `must be a whole number of at least 1, but is ${topK}`);
  const layerMap = identityLayerMap(config.depth);
  const tokens = [...prompt];
  for (let index = 0; index < newTokens && !options.signal?.aborted; index++) {
    const window = Int32Array.from(tokens.slice(-config.maxPositions));
    const logits = tf.tidy(() => {
      const inputIds = tf.tensor2d(window, [1, window.length], "int32");
      const countedPositions = tf.tensor1d([window.length - 1], "int32");
      const input = { inputIds, attentionMask: null, countedPositions };
      return family.forward(weights, config, input, { layerMap, dropout: null });
    });
    const values = await logits.data<"float32">();
    logits.dispose();
    const next = pick(values, temperature, topK, random.fork(index).uniform());
    if (next === endOfText) return;
    tokens.push(next);
    yield next;
  }
}

/** @param draw uniform in [0, 1) */
function pick(logits: Float32Array, temperature: number, topK: number | null, draw: number): number {
  const ranked = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
  const best = ranked[0]!;
  if (temperature === 0) return best;
  const candidates = ranked.slice(0, topK ?? ranked.length);
  const weights = candidates.map((token) => Math.exp((logits[token]! - logits[best]!) / temperature));
  let left = draw * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [index, weight] of weights.entries()) {
    left -= weight;
    if (left < 0) return candidates[index]!;
  }
  return candidates.at(-1)!;
}
