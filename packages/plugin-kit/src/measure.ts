import {
  type GrowthMap,
  identityLayerMap,
  type LayerMapping,
  type ModelConfig,
  type ModelFamily,
  type ModelInput,
  type RandomStream,
  stream,
  type TrainingParameters,
} from "@espalier/core";
import {
  disposeParameters,
  growWeights,
  initializeParameters,
  measurePreservation,
  weightsOf,
} from "@espalier/growth";
import * as tf from "@tensorflow/tfjs";

/**
 * A training state in which nothing is at its initial value: every weight, biases and norms too, has noise of its own,
 * both moments are those of a parameter that was trained, and step counts differ.
 *
 * @returns the caller owns the tensors
 */
export function perturbedParameters(
  family: ModelFamily,
  config: ModelConfig,
  random: RandomStream,
): TrainingParameters {
  const parameters = initializeParameters(family, config, random);
  let count = 0;
  for (const [name, state] of parameters) {
    const noise = (label: string): tf.Tensor =>
      tf.tensor(random.fork(label).fork(name).normals(state.weight.size), state.weight.shape, "float32");
    const fresh = tf.tidy(() => ({
      weight: tf.keep(tf.add(state.weight, tf.mul(noise("weight"), 0.2))),
      firstMoment: tf.keep(tf.mul(noise("firstMoment"), 0.01)),
      secondMoment: tf.keep(tf.square(tf.mul(noise("secondMoment"), 0.01))),
      stepCount: tf.keep(tf.scalar(++count)),
    }));
    tf.dispose([state.weight, state.firstMoment, state.secondMoment, state.stepCount]);
    parameters.set(name, fresh);
  }
  return parameters;
}

/**
 * A batch of token numbers below the vocabulary's size, without padding. int32 `[batch, seq]`
 *
 * @returns the caller disposes `inputIds`
 */
export function testInput(
  config: ModelConfig,
  batch = 3,
  sequence = Math.min(7, config.maxPositions),
): ModelInput {
  const random = stream(23).fork("tokens");
  const ids = Int32Array.from({ length: batch * sequence }, (_, index) =>
    random.integer(config.vocabSize, index),
  );
  return {
    inputIds: tf.tensor2d(ids, [batch, sequence], "int32"),
    attentionMask: null,
    countedPositions: null,
  };
}

/**
 * max |logits before − after| of a growth, at every executed depth from the grown model's unique layers to twice as many.
 * Without a layer mapping each model runs its own layers once, and there is one number.
 */
export async function changeOfLogits(options: {
  readonly map: GrowthMap;
  readonly family: ModelFamily;
  readonly from: ModelConfig;
  readonly to: ModelConfig;
  readonly mapping: LayerMapping | undefined;
}): Promise<number[]> {
  const { map, family, from, to, mapping } = options;
  const source = perturbedParameters(family, from, stream(17));
  const grown = growWeights(map, weightsOf(source), { config: to, family, random: stream(17) });
  const input = testInput(from);
  try {
    const measured = await measurePreservation({
      family,
      before: { config: from, parameters: weightsOf(source) },
      after: { config: to, parameters: grown },
      input,
      depths: mapping ? Array.from({ length: to.depth + 1 }, (_, more) => to.depth + more) : [to.depth],
      mapping: mapping ?? identityLayerMap,
      random: stream(29),
    });
    return measured.map(({ maxDifference }) => maxDifference);
  } finally {
    tf.dispose([...grown.values()]);
    input.inputIds.dispose();
    disposeParameters(source);
  }
}
