import type { ModelDescription } from "@espalier/core";
import { bertForeignTensors, bertFromHuggingFace, bertToHuggingFace } from "./bert-config.js";
import { checkConfig } from "./check.js";
import { layoutOf, type ParameterTable, specsOf } from "./parameter-table.js";

/** The parameters of `BertForMaskedLM`, with PyTorch's `[out, in]` weights; the tied decoder is stored once. */
export const bertTable: ParameterTable = {
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

/** BERT without its forward pass: names, shapes and config. */
export const bertDescription: ModelDescription = {
  name: "bert",
  causal: false,
  modelType: "bert",
  defaults: { layerNormEpsilon: 1e-12, tokenTypes: 2 },
  check: (config) => checkConfig(config, { tokenTypes: true }),
  layout: (depth) => layoutOf(bertTable, depth),
  parameters: (config) => specsOf(bertTable, config),
  layerParameter: (layer, suffix) => bertTable.layerPrefix(layer) + suffix,
  toHuggingFace: bertToHuggingFace,
  foreignTensors: bertForeignTensors,
  fromHuggingFace: bertFromHuggingFace,
};
