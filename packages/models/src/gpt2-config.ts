import type { ForeignTensor, JsonObject, ModelConfig } from "@espalier/core";
import { checkShape } from "@espalier/core";
import { checkConfig } from "./check.js";
import { huggingFaceJson } from "./hugging-face-json.js";

/** The `config.json` of a `GPT2LMHeadModel`. */
export function gpt2ToHuggingFace(config: ModelConfig): JsonObject {
  return {
    activation_function: "gelu_new",
    architectures: ["GPT2LMHeadModel"],
    attn_pdrop: config.attentionDropout ?? config.dropout,
    // Hugging Face's defaults (50256) lie outside of a smaller vocabulary.
    bos_token_id: null,
    embd_pdrop: config.embeddingDropout ?? config.dropout,
    eos_token_id: null,
    initializer_range: config.initializerRange,
    layer_norm_epsilon: config.layerNormEpsilon,
    model_type: "gpt2",
    n_embd: config.hiddenSize,
    n_head: config.attentionHeads,
    n_inner: config.intermediateSize,
    n_layer: config.depth,
    n_positions: config.maxPositions,
    resid_pdrop: config.dropout,
    scale_attn_weights: true,
    tie_word_embeddings: true,
    torch_dtype: "float32",
    vocab_size: config.vocabSize,
  };
}

/** What checkpoints of GPT-2 hold beside the decoder. */
export const gpt2ForeignTensors: readonly ForeignTensor[] = [
  { name: /^lm_head\.weight$/, what: "the head", treatment: { tiedTo: "transformer.wte.weight" } },
  {
    name: /^(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)$/,
    what: "the causal mask, a buffer",
    treatment: "leave-out",
  },
  { name: /^score\./, what: "a classification head", treatment: "leave-out" },
  { name: /^classifier\./, what: "a classification head", treatment: "leave-out" },
  { name: /^qa_outputs\./, what: "a question-answering head", treatment: "leave-out" },
  { name: /^multiple_choice_head\./, what: "a multiple-choice head", treatment: "leave-out" },
  { name: /\.crossattention\.|\.ln_cross_attn\./, what: "cross attention", treatment: "refuse" },
];

/** @throws UsageError for a GPT-2 that is not computed here: other activations or attention scales, untied heads */
export function gpt2FromHuggingFace(json: JsonObject): ModelConfig {
  const read = huggingFaceJson(json, "gpt2");
  read.require("model_type", ["gpt2"], "this is the family gpt2");
  const tanhGelu = ["gelu_new", "gelu_pytorch_tanh"];
  read.require("activation_function", tanhGelu, "only the tanh approximation of GELU is computed");
  read.require("scale_attn_weights", [true], "attention is always scaled by 1/√channels");
  read.require("scale_attn_by_inverse_layer_idx", [false], "attention is not scaled by layer");
  read.require("add_cross_attention", [false], "only self-attention is computed");
  read.requireEmpty("pruned_heads", "every layer has all its heads");
  read.requireEmpty("quantization_config", "weights are float32");
  read.require("tie_word_embeddings", [true], "only a head tied to the token embeddings is computed");
  const hiddenSize = read.size("n_embd");
  const dropout = read.number("resid_pdrop", 0.1);
  const attentionDropout = read.number("attn_pdrop", 0.1);
  const embeddingDropout = read.number("embd_pdrop", 0.1);
  const config: ModelConfig = {
    family: "gpt2",
    depth: read.size("n_layer"),
    hiddenSize,
    attentionHeads: read.size("n_head"),
    intermediateSize: read.numberOrNull("n_inner", null) ?? 4 * hiddenSize,
    vocabSize: read.size("vocab_size"),
    maxPositions: read.size("n_positions"),
    dropout,
    layerNormEpsilon: read.number("layer_norm_epsilon", 1e-5),
    initializerRange: read.number("initializer_range", 0.02),
    tokenTypes: 0,
    ...(attentionDropout === dropout ? {} : { attentionDropout }),
    ...(embeddingDropout === dropout ? {} : { embeddingDropout }),
  };
  checkShape(config, "config.json");
  checkConfig(config, { tokenTypes: false });
  return config;
}
