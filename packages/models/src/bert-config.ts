import type { JsonObject, ModelConfig } from "@espalier/core";
import { checkShape } from "@espalier/core";
import { checkConfig } from "./check.js";
import { huggingFaceJson } from "./hugging-face-json.js";

/** The `config.json` of a `BertForMaskedLM`. */
export function bertToHuggingFace(config: ModelConfig): JsonObject {
  return {
    architectures: ["BertForMaskedLM"],
    attention_probs_dropout_prob: config.attentionDropout ?? config.dropout,
    hidden_act: "gelu",
    hidden_dropout_prob: config.dropout,
    hidden_size: config.hiddenSize,
    initializer_range: config.initializerRange,
    intermediate_size: config.intermediateSize,
    layer_norm_eps: config.layerNormEpsilon,
    max_position_embeddings: config.maxPositions,
    model_type: "bert",
    num_attention_heads: config.attentionHeads,
    num_hidden_layers: config.depth,
    pad_token_id: config.padToken === undefined ? 0 : config.padToken,
    position_embedding_type: "absolute",
    tie_word_embeddings: true,
    torch_dtype: "float32",
    type_vocab_size: config.tokenTypes,
    vocab_size: config.vocabSize,
  };
}

/** @throws UsageError for a BERT that is not computed here: decoders, other activations, relative positions, untied heads */
export function bertFromHuggingFace(json: JsonObject): ModelConfig {
  const read = huggingFaceJson(json, "bert");
  read.require("model_type", ["bert"], "this is the family bert");
  read.require("hidden_act", ["gelu"], "only the exact GELU is computed");
  read.require("position_embedding_type", ["absolute"], "only learned absolute positions are computed");
  read.require("is_decoder", [false], "only the bidirectional encoder is computed");
  read.require("add_cross_attention", [false], "only self-attention is computed");
  read.require("tie_word_embeddings", [true], "only a decoder tied to the word embeddings is computed");
  const dropout = read.number("hidden_dropout_prob", 0.1);
  const attentionDropout = read.number("attention_probs_dropout_prob", 0.1);
  const padToken = read.numberOrNull("pad_token_id", 0);
  const config: ModelConfig = {
    family: "bert",
    depth: read.size("num_hidden_layers"),
    hiddenSize: read.size("hidden_size"),
    attentionHeads: read.size("num_attention_heads"),
    intermediateSize: read.size("intermediate_size"),
    vocabSize: read.size("vocab_size"),
    maxPositions: read.size("max_position_embeddings"),
    dropout,
    layerNormEpsilon: read.number("layer_norm_eps", 1e-12),
    initializerRange: read.number("initializer_range", 0.02),
    tokenTypes: read.size("type_vocab_size"),
    ...(attentionDropout === dropout ? {} : { attentionDropout }),
    ...(padToken === 0 ? {} : { padToken }),
  };
  checkShape(config, "config.json");
  checkConfig(config, { tokenTypes: true });
  return config;
}
