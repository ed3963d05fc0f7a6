import {
  checkLayerMap,
  type ForwardOptions,
  type ModelConfig,
  type ModelFamily,
  type ModelInput,
  type ParameterMap,
} from "@espalier/core";
import {
  addPositions,
  addRow,
  dropout,
  embedding,
  feedForward,
  gatherRows,
  gelu,
  layerNorm,
  linear,
  packedAttention,
  paddingMask,
  residualLinearNorm,
  stackedLinear,
} from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";
import { bertFromHuggingFace, bertToHuggingFace } from "./bert-config.js";
import { checkConfig } from "./check.js";
import { memoryCost, stepCost } from "./cost.js";
import { dropoutPlaces, embeddingsLayer } from "./dropout-places.js";
import { checkInput, flatIds } from "./input.js";
import { layerRunner } from "./layer-runner.js";
import { layoutOf, type ParameterTable, specsOf } from "./parameter-table.js";
import { weightsOf } from "./weights.js";

/** The parameters of `BertForMaskedLM`, with PyTorch's `[out, in]` weights; the tied decoder is stored once. */
const table: ParameterTable = {
  layerPrefix: (layer) => `bert.encoder.layer.${layer}.`,
  weightLayout: "out_in",
  normBeforeTiedDecoder: "cls.predictions.transform.LayerNorm",
  embedding: [
    ["bert.embeddings.word_embeddings.weight", "weight", "vocabulary", "hidden"],
    ["bert.embeddings.position_embeddings.weight", "weight", "positions", "hidden"],
    ["bert.embeddings.token_type_embeddings.weight", "weight", "tokenTypes", "hidden"],
    ["bert.embeddings.LayerNorm.weight", "gain", "hidden"],
    ["bert.embeddings.LayerNorm.bias", "bias", "hidden"],
  ],
  layer: [
    ["attention.self.query.weight", "weight", "heads", "hidden"],
    ["attention.self.query.bias", "bias", "heads"],
    ["attention.self.key.weight", "weight", "heads", "hidden"],
    ["attention.self.key.bias", "bias", "heads"],
    ["attention.self.value.weight", "weight", "heads", "hidden"],
    ["attention.self.value.bias", "bias", "heads"],
    ["attention.output.dense.weight", "weight", "hidden", "heads"],
    ["attention.output.dense.bias", "bias", "hidden"],
    ["attention.output.LayerNorm.weight", "gain", "hidden"],
    ["attention.output.LayerNorm.bias", "bias", "hidden"],
    ["intermediate.dense.weight", "weight", "intermediate", "hidden"],
    ["intermediate.dense.bias", "bias", "intermediate"],
    ["output.dense.weight", "weight", "hidden", "intermediate"],
    ["output.dense.bias", "bias", "hidden"],
    ["output.LayerNorm.weight", "gain", "hidden"],
    ["output.LayerNorm.bias", "bias", "hidden"],
  ],
  head: [
    ["cls.predictions.bias", "bias", "vocabulary"],
    ["cls.predictions.transform.dense.weight", "weight", "hidden", "hidden"],
    ["cls.predictions.transform.dense.bias", "bias", "hidden"],
    ["cls.predictions.transform.LayerNorm.weight", "gain", "hidden"],
    ["cls.predictions.transform.LayerNorm.bias", "bias", "hidden"],
  ],
};

/**
 * BERT (Devlin et al. 2019) with its masked-LM head: post-layer-norm, learned positions, token type 0 throughout, exact
 * GELU, and a decoder tied to the word embeddings. `hidden` below is `[batch · seq, hiddenSize]`.
 */
function forward(
  parameters: ParameterMap,
  config: ModelConfig,
  input: ModelInput,
  options: ForwardOptions,
): tf.Tensor2D {
  checkInput(config, input);
  checkLayerMap(options.layerMap, config.depth);
  const sequenceLength = input.inputIds.shape[1];
  const epsilon = config.layerNormEpsilon;
  const precision = options.precision ?? "fp32";
  const dropAt = dropoutPlaces(config, options.dropout);
  const all = weightsOf(parameters);
  const words = all.matrix("bert.embeddings.word_embeddings.weight");

  function embed(): tf.Tensor2D {
    const weights = all.under("bert.embeddings.");
    let hidden = embedding(words, flatIds(input), config.padToken === undefined ? 0 : config.padToken);
    hidden = addRow(hidden, weights.matrix("token_type_embeddings.weight"), 0);
    hidden = addPositions(hidden, weights.matrix("position_embeddings.weight"), sequenceLength);
    hidden = layerNorm(hidden, weights.vector("LayerNorm.weight"), weights.vector("LayerNorm.bias"), epsilon);
    const drop = dropAt(embeddingsLayer, "embeddings");
    return dropout(hidden, drop.rate, drop.seed);
  }

  function layer(
    hidden: tf.Tensor2D,
    mask: tf.Tensor4D | null,
    uniqueLayer: number,
    executedLayer: number,
  ): tf.Tensor2D {
    const weights = all.under(table.layerPrefix(uniqueLayer));
    const onProbabilities = dropAt(executedLayer, "attention-probabilities");
    const packed = stackedLinear(
      hidden,
      [
        weights.linear("attention.self.query"),
        weights.linear("attention.self.key"),
        weights.linear("attention.self.value"),
      ],
      precision,
    );
    const attended = packedAttention(packed, {
      sequenceLength,
      heads: config.attentionHeads,
      causal: false,
      mask,
      dropout: onProbabilities.rate > 0 ? onProbabilities : null,
    });
    const middle = residualLinearNorm(
      attended,
      weights.linear("attention.output.dense"),
      hidden,
      dropAt(executedLayer, "attention-output"),
      weights.norm("attention.output.LayerNorm", epsilon),
      { weightLayout: "out_in", precision },
    );
    return feedForward(
      middle,
      weights.linear("intermediate.dense"),
      weights.linear("output.dense"),
      weights.norm("output.LayerNorm", epsilon),
      dropAt(executedLayer, "feed-forward-output"),
      { weightLayout: "out_in", precision, activation: "none", norm: "after" },
    );
  }

  // Only the positions that count go through the head: its decoder is the largest product of a small model.
  function head(hidden: tf.Tensor2D): tf.Tensor2D {
    const weights = all.under("cls.predictions.");
    const counted =
      input.countedPositions === null ? hidden : gatherRows(hidden, input.countedPositions as tf.Tensor1D);
    const transformed = gelu(
      linear(
        counted,
        weights.matrix("transform.dense.weight"),
        weights.vector("transform.dense.bias"),
        "out_in",
        precision,
      ),
      "none",
    );
    const normal = layerNorm(
      transformed,
      weights.vector("transform.LayerNorm.weight"),
      weights.vector("transform.LayerNorm.bias"),
      epsilon,
    );
    return linear(normal, words, weights.vector("bias"), "out_in", precision);
  }

  const runLayer = layerRunner(layer, table, parameters, options);
  const mask = input.attentionMask === null ? null : paddingMask(input.attentionMask);
  try {
    return tf.tidy(() => {
      let hidden = tf.tidy(embed);
      for (const [executedLayer, uniqueLayer] of options.layerMap.entries()) {
        const before = hidden;
        hidden = tf.tidy(() => runLayer(before, mask, uniqueLayer, executedLayer));
        before.dispose();
      }
      return head(hidden);
    });
  } finally {
    mask?.dispose();
  }
}

/** BERT with a masked-LM head (Hugging Face's `BertForMaskedLM`). */
export const bert: ModelFamily = {
  name: "bert",
  causal: false,
  modelType: "bert",
  defaults: { layerNormEpsilon: 1e-12, tokenTypes: 2 },
  check: (config) => checkConfig(config, { tokenTypes: true }),
  layout: (depth) => layoutOf(table, depth),
  parameters: (config) => specsOf(table, config),
  layerParameter: (layer, suffix) => table.layerPrefix(layer) + suffix,
  forward,
  cost: (config, load) => stepCost(config, load, { headTransform: true }),
  memory: (config, load, compute) =>
    memoryCost(specsOf(table, config), config, load, { headTransform: true }, compute),
  toHuggingFace: bertToHuggingFace,
  fromHuggingFace: bertFromHuggingFace,
};
