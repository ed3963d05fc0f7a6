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
  dropout,
  embedding,
  feedForward,
  gatherRows,
  layerNorm,
  linear,
  normLinear,
  packedAttention,
  paddingMask,
  residualLinear,
} from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";
import { checkConfig } from "./check.js";
import { memoryCost, stepCost } from "./cost.js";
import { dropoutPlaces, embeddingsLayer } from "./dropout-places.js";
import { gpt2FromHuggingFace, gpt2ToHuggingFace } from "./gpt2-config.js";
import { checkInput, flatIds } from "./input.js";
import { layerRunner } from "./layer-runner.js";
import { layoutOf, type ParameterTable, specsOf } from "./parameter-table.js";
import { weightsOf } from "./weights.js";

/** The parameters of `GPT2LMHeadModel`, with Conv1D's `[in, out]` weights; the tied head is `wte`. */
const table: ParameterTable = {
  layerPrefix: (layer) => `transformer.h.${layer}.`,
  weightLayout: "in_out",
  normBeforeTiedDecoder: "transformer.ln_f",
  embedding: [
    ["transformer.wte.weight", "weight", "vocabulary", "hidden"],
    ["transformer.wpe.weight", "weight", "positions", "hidden"],
  ],
  layer: [
    ["ln_1.weight", "gain", "hidden"],
    ["ln_1.bias", "bias", "hidden"],
    ["attn.c_attn.weight", "weight", "hidden", "qkv"],
    ["attn.c_attn.bias", "bias", "qkv"],
    ["attn.c_proj.weight", "residual", "heads", "hidden"],
    ["attn.c_proj.bias", "bias", "hidden"],
    ["ln_2.weight", "gain", "hidden"],
    ["ln_2.bias", "bias", "hidden"],
    ["mlp.c_fc.weight", "weight", "hidden", "intermediate"],
    ["mlp.c_fc.bias", "bias", "intermediate"],
    ["mlp.c_proj.weight", "residual", "intermediate", "hidden"],
    ["mlp.c_proj.bias", "bias", "hidden"],
  ],
  head: [
    ["transformer.ln_f.weight", "gain", "hidden"],
    ["transformer.ln_f.bias", "bias", "hidden"],
  ],
};

/**
 * GPT-2 (Radford et al. 2019): pre-layer-norm, learned positions, causal attention, GELU by its tanh approximation, and
 * a head tied to the token embeddings. `hidden` below is `[batch · seq, hiddenSize]`.
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
  const tokens = all.matrix("transformer.wte.weight");

  function embed(): tf.Tensor2D {
    const hidden = addPositions(
      embedding(tokens, flatIds(input)),
      all.matrix("transformer.wpe.weight"),
      sequenceLength,
    );
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
    const part = { weightLayout: "in_out", precision } as const;
    const onProbabilities = dropAt(executedLayer, "attention-probabilities");
    const packed = normLinear(hidden, weights.norm("ln_1", epsilon), weights.linear("attn.c_attn"), part);
    const attended = packedAttention(packed, {
      sequenceLength,
      heads: config.attentionHeads,
      causal: true,
      mask,
      dropout: onProbabilities.rate > 0 ? onProbabilities : null,
    });
    const middle = residualLinear(
      attended,
      weights.linear("attn.c_proj"),
      hidden,
      dropAt(executedLayer, "attention-output"),
      part,
    );
    return feedForward(
      middle,
      weights.linear("mlp.c_fc"),
      weights.linear("mlp.c_proj"),
      weights.norm("ln_2", epsilon),
      dropAt(executedLayer, "feed-forward-output"),
      { ...part, activation: "tanh", norm: "before" },
    );
  }

  // Only the positions that count go through the final layer norm and the head.
  function head(hidden: tf.Tensor2D): tf.Tensor2D {
    const counted =
      input.countedPositions === null ? hidden : gatherRows(hidden, input.countedPositions as tf.Tensor1D);
    const normal = layerNorm(
      counted,
      all.vector("transformer.ln_f.weight"),
      all.vector("transformer.ln_f.bias"),
      epsilon,
    );
    return linear(normal, tokens, null, "out_in", precision);
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

/** GPT-2 with its tied language-model head (Hugging Face's `GPT2LMHeadModel`). */
export const gpt2: ModelFamily = {
  name: "gpt2",
  causal: true,
  modelType: "gpt2",
  defaults: { layerNormEpsilon: 1e-5, tokenTypes: 0 },
  check: (config) => checkConfig(config, { tokenTypes: false }),
  layout: (depth) => layoutOf(table, depth),
  parameters: (config) => specsOf(table, config),
  layerParameter: (layer, suffix) => table.layerPrefix(layer) + suffix,
  forward,
  cost: (config, load) => stepCost(config, load, { headTransform: false }),
  memory: (config, load, compute) =>
    memoryCost(specsOf(table, config), config, load, { headTransform: false }, compute),
  toHuggingFace: gpt2ToHuggingFace,
  fromHuggingFace: gpt2FromHuggingFace,
};
