import type { ModelDescription } from "@espalier/core";
import { checkConfig } from "./check.js";
import { gpt2ForeignTensors, gpt2FromHuggingFace, gpt2ToHuggingFace } from "./gpt2-config.js";
import { layoutOf, type ParameterTable, specsOf } from "./parameter-table.js";

/** The parameters of `GPT2LMHeadModel`, with Conv1D's `[in, out]` weights; the tied head is `wte`. */
export const gpt2Table: ParameterTable = {
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

/** GPT-2 without its forward pass: names, shapes and config. */
export const gpt2Description: ModelDescription = {
  name: "gpt2",
  causal: true,
  modelType: "gpt2",
  defaults: { layerNormEpsilon: 1e-5, tokenTypes: 0 },
  check: (config) => checkConfig(config, { tokenTypes: false }),
  layout: (depth) => layoutOf(gpt2Table, depth),
  parameters: (config) => specsOf(gpt2Table, config),
  layerParameter: (layer, suffix) => gpt2Table.layerPrefix(layer) + suffix,
  toHuggingFace: gpt2ToHuggingFace,
  foreignTensors: gpt2ForeignTensors,
  fromHuggingFace: gpt2FromHuggingFace,
};
