import type { ForeignTensor, JsonObject, ModelConfig } from "@espalier/core";
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

/** What checkpoints of BERT hold beside the encoder and its masked-LM head. */
export const bertForeignTensors: readonly ForeignTensor[] = [
  {
    name: /^cls\.predictions\.decoder\.weight$/,
    what: "the decoder",
    treatment: { tiedTo: "bert.embeddings.word_embeddings.weight" },
  },
  {
    name: /^cls\.predictions\.decoder\.bias$/,
    what: "the decoder's bias",
    treatment: { tiedTo: "cls.predictions.bias" },
  },
  { name: /^(bert\.)?pooler\./, what: "the pooler", treatment: "leave-out" },
  { name: /^cls\.seq_relationship\./, what: "the next-sentence head", treatment: "leave-out" },
  { name: /^classifier\./, what: "a classification head", treatment: "leave-out" },
  { name: /^qa_outputs\./, what: "a question-answering head", treatment: "leave-out" },
  {
    name: /^(bert\.)?embeddings\.(position_ids|token_type_ids)$/,
    what: "a buffer",
    treatment: "leave-out",
  },
  { name: /\.crossattention\./, what: "cross attention", treatment: "refuse" },
  {
    name: /\.attention\.self\.distance_embedding\./,
    what: "relative positions",
    treatment: "refuse",
  },
];

/** @throws UsageError for a BERT that is not computed here: decoders, other activations, relative positions, untied heads */
export function bertFromHuggingFace(json: JsonObject): ModelConfig {
  const read = huggingFaceJson(json, "bert");
  read.require("model_type", ["bert"], "this is the family bert");
  read.require("hidden_act", ["gelu"], "only the exact GELU is computed");
  read.require("position_embedding_type", ["absolute"], "only learned absolute positions are computed");
  read.require("is_decoder", [false], "only the bidirectional encoder is computed");
  read.require("add_cross_attention", [false], "only self-attention is computed");
  read.requireEmpty("pruned_heads", "every layer has all its heads");
  read.requireEmpty("quantization_config", "weights are float32");
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
