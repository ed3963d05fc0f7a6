import type {
  LayerMapping,
  ModelConfig,
  ModelFamily,
  ModelInput,
  ParameterMap,
  RandomStream,
} from "@espalier/core";
import * as tf from "@tensorflow/tfjs";

/** A model at one point of its growth. */
export interface ModelAtShape {
  readonly config: ModelConfig;
  readonly parameters: ParameterMap;
}

/** How far the logits moved at one executed depth. */
export interface DepthPreservation {
  readonly depth: number;
  /** max |logits before − after| over the batch; 0 only if every logit is the same. */
  readonly maxDifference: number;
}

/**
 * Measures function preservation: max |logits before − after| for each executed depth, dropout off.
 *
 * @param options.mapping the layer mapping of both models, or one for each
 * @param options.random for mappings that draw; both models get the same stream, forked by depth
 */
export async function measurePreservation(options: {
  readonly family: ModelFamily;
  readonly before: ModelAtShape;
  readonly after: ModelAtShape;
  readonly input: ModelInput;
  readonly depths: readonly number[];
  readonly mapping: LayerMapping | { readonly before: LayerMapping; readonly after: LayerMapping };
  readonly random: RandomStream;
}): Promise<DepthPreservation[]> {
  const { family, before, after, input, depths, mapping, random } = options;
  const mappings = typeof mapping === "function" ? { before: mapping, after: mapping } : mapping;
  const logits = (model: ModelAtShape, rule: LayerMapping, depth: number): tf.Tensor =>
    family.forward(model.parameters, model.config, input, {
      layerMap: rule(model.config.depth, depth, random.fork(depth)),
      dropout: null,
    });
  const measured: DepthPreservation[] = [];
  for (const depth of depths) {
    const difference = tf.tidy(() =>
      tf.max(tf.abs(tf.sub(logits(before, mappings.before, depth), logits(after, mappings.after, depth)))),
    );
    try {
      measured.push({ depth, maxDifference: (await difference.data())[0]! });
    } finally {
      difference.dispose();
    }
  }
  return measured;
}
