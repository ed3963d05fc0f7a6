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
import { memoryCost, stepCost } from "./cost.js";
import { dropoutPlaces, embeddingsLayer } from "./dropout-places.js";
import { gpt2Description, gpt2Table as table } from "./gpt2-description.js";
import { checkInput, flatIds } from "./input.js";
import { layerRunner } from "./layer-runner.js";
import { specsOf } from "./parameter-table.js";
import { weightsOf } from "./weights.js";

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
  ...gpt2Description,
  forward,
  cost: (config, load) => stepCost(config, load, { headTransform: false }),
  memory: (config, load, compute) =>
    memoryCost(specsOf(table, config), config, load, { headTransform: false }, compute),
};
