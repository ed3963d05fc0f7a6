import {
  checkLayerMap,
  type Initializer,
  type ModelConfig,
  type ModelFamily,
  type ParameterMap,
  type ParameterPlace,
  type ParameterSpec,
  UsageError,
} from "@espalier/core";
import * as tf from "@tensorflow/tfjs";

/** The parameters of one layer. */
const layerPlaces = [
  { suffix: "norm.weight", axes: ["hidden"], inputAxis: null },
  { suffix: "norm.bias", axes: ["hidden"], inputAxis: null },
  { suffix: "up.weight", axes: ["hidden", "intermediate"], inputAxis: 0 },
  { suffix: "up.bias", axes: ["intermediate"], inputAxis: null },
  { suffix: "down.weight", axes: ["intermediate", "hidden"], inputAxis: 0 },
  { suffix: "down.bias", axes: ["hidden"], inputAxis: null },
] as const satisfies readonly Pick<ParameterPlace, "suffix" | "axes" | "inputAxis">[];

/**
 * A residual multi-layer perceptron over tokens: x ← x + tanh(norm(x)·U + u)·D + d in each layer, tied to nothing. The
 * smallest model in which the order, the number and the sharing of layers all show in the logits; for the conformance
 * suite and for plugins' own tests, on any TensorFlow.js backend. Dropout is not applied.
 */
export const residualFamily: ModelFamily = {
  name: "residual",
  causal: true,
  modelType: "residual",
  defaults: { layerNormEpsilon: 1e-5, tokenTypes: 0 },
  check(config) {
    if (config.tokenTypes !== 0)
      throw new UsageError("ESPALIER_SHAPE_INVALID", "model.tokenTypes must be 0: this family has none", {
        key: "model.tokenTypes",
      });
  },
  layout: (depth) => [
    outside("embedding.weight", "embedding", ["vocabulary", "hidden"]),
    ...Array.from({ length: depth }, (_, layer) =>
      layerPlaces.map(
        ({ suffix, axes, inputAxis }): ParameterPlace => ({
          name: layerParameter(layer, suffix),
          part: "layer",
          layer,
          suffix,
          axes,
          inputAxis,
        }),
      ),
    ).flat(),
    outside("head.weight", "head", ["hidden", "vocabulary"], 0),
    outside("head.bias", "head", ["vocabulary"]),
  ],
  parameters: (config) =>
    residualFamily.layout(config.depth).map(
      (place): ParameterSpec => ({
        ...place,
        shape: place.axes.map((axis) => lengthOf(axis, config)),
        decay: place.axes.length > 1,
        initializer: initializerOf(place, config),
      }),
    ),
  layerParameter,
  forward(parameters, config, input, { layerMap }) {
    checkLayerMap(layerMap, config.depth);
    return tf.tidy(() => {
      const ids = tf.reshape(input.inputIds, [-1]);
      const wanted = input.countedPositions ? tf.gather(ids, input.countedPositions) : ids;
      let hidden: tf.Tensor = tf.gather(weightOf(parameters, "embedding.weight"), tf.cast(wanted, "int32"));
      for (const layer of layerMap) hidden = runLayer(parameters, config, layer, hidden);
      const logits = tf.matMul(hidden, weightOf(parameters, "head.weight"));
      return tf.add(logits, weightOf(parameters, "head.bias")) as tf.Tensor2D;
    });
  },
  cost(config, load) {
    const tokens = load.batchSize * load.sequenceLength;
    const layers = 4 * tokens * config.hiddenSize * config.intermediateSize * load.executedLayers;
    const forwardFlops = layers + 2 * load.countedPositions * config.hiddenSize * config.vocabSize;
    return { forwardFlops, trainingFlops: 3 * forwardFlops };
  },
  memory(config, load) {
    const parameters = residualFamily
      .parameters(config)
      .reduce((sum, { shape }) => sum + 4 * shape.reduce((product, length) => product * length, 1), 0);
    const tokens = load.batchSize * load.sequenceLength;
    return {
      parameters,
      gradients: parameters,
      optimizer: 2 * parameters,
      activations: 4 * tokens * load.executedLayers * (3 * config.hiddenSize + 2 * config.intermediateSize),
    };
  },
  toHuggingFace: (config) => ({ model_type: "residual", ...config }),
  fromHuggingFace() {
    throw new UsageError(
      "ESPALIER_CONFIG_UNSUPPORTED",
      "the residual test family reads no Hugging Face config",
    );
  },
};

function outside(
  name: string,
  part: ParameterPlace["part"],
  axes: ParameterPlace["axes"],
  inputAxis: number | null = null,
): ParameterPlace {
  return { name, part, layer: null, suffix: name, axes, inputAxis };
}

function layerParameter(layer: number, suffix: string): string {
  return `layers.${layer}.${suffix}`;
}

function lengthOf(axis: ParameterPlace["axes"][number], config: ModelConfig): number {
  if (axis === "vocabulary") return config.vocabSize;
  return axis === "intermediate" ? config.intermediateSize : config.hiddenSize;
}

function initializerOf(place: ParameterPlace, config: ModelConfig): Initializer {
  if (place.suffix === "norm.weight") return { kind: "ones" };
  if (place.axes.length === 1) return { kind: "zeros" };
  return { kind: "normal", deviation: config.initializerRange };
}

function weightOf(parameters: ParameterMap, name: string): tf.Tensor {
  const weight = parameters.get(name);
  if (!weight) throw new Error(`there is no parameter "${name}"`);
  return weight;
}

function runLayer(parameters: ParameterMap, config: ModelConfig, layer: number, x: tf.Tensor): tf.Tensor {
  const weight = (suffix: string): tf.Tensor => weightOf(parameters, layerParameter(layer, suffix));
  const { mean, variance } = tf.moments(x, -1, true);
  const normal = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, config.layerNormEpsilon)));
  const scaled = tf.add(tf.mul(normal, weight("norm.weight")), weight("norm.bias"));
  const inner = tf.tanh(tf.add(tf.matMul(scaled, weight("up.weight")), weight("up.bias")));
  return tf.add(x, tf.add(tf.matMul(inner, weight("down.weight")), weight("down.bias")));
}
