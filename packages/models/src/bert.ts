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
import { bertDescription, bertTable as table } from "./bert-description.js";
import { memoryCost, stepCost } from "./cost.js";
import { dropoutPlaces, embeddingsLayer } from "./dropout-places.js";
import { checkInput, flatIds } from "./input.js";
import { layerRunner } from "./layer-runner.js";
import { specsOf } from "./parameter-table.js";
import { weightsOf } from "./weights.js";

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
  ...bertDescription,
  forward,
  cost: (config, load) => stepCost(config, load, { headTransform: true }),
  memory: (config, load, compute) =>
    memoryCost(specsOf(table, config), config, load, { headTransform: true }, compute),
};
