import { readFileSync } from "node:fs";
import type { JsonObject, ModelConfig, ModelFamily } from "@espalier/core";
import { UsageError } from "@espalier/core";
import { describe, expect, it } from "vitest";
import { bert } from "./bert.js";
import { gpt2 } from "./gpt2.js";

function fixture(family: ModelFamily): JsonObject {
  return JSON.parse(readFileSync(new URL(`../fixtures/${family.name}/config.json`, import.meta.url), "utf8"));
}

function refused(family: ModelFamily, change: JsonObject): UsageError {
  try {
    family.fromHuggingFace({ ...fixture(family), ...change });
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error("the config was accepted");
}

describe.each([bert, gpt2])("$name's config.json", (family) => {
  const config = family.fromHuggingFace(fixture(family));

  it("survives the way there and back", () => {
    expect(family.fromHuggingFace(family.toHuggingFace(config))).toEqual(config);
    const other: ModelConfig = { ...config, dropout: 0.2, attentionDropout: 0, maxPositions: 99 };
    expect(family.fromHuggingFace(family.toHuggingFace(other))).toEqual(other);
  });

  it("says what Hugging Face says", () => {
    const written = family.toHuggingFace(config);
    const given = fixture(family);
    const shared = Object.keys(given).filter((key) => key in written);
    expect(shared.length).toBeGreaterThan(10);
    for (const key of shared) expect(written[key], key).toEqual(given[key]);
  });

  it("refuses another family's", () => {
    expect(refused(family, { model_type: "llama" }).message).toContain('"llama"');
  });

  it("names a size that is missing or no size", () => {
    const key = family === bert ? "num_hidden_layers" : "n_layer";
    expect(refused(family, { [key]: null }).key).toBe(key);
    expect(refused(family, { [key]: "12" }).message).toContain('"12"');
    expect(refused(family, { vocab_size: 0 }).key).toBe("vocab_size");
  });

  it("refuses a hidden size that the heads do not divide", () => {
    const key = family === bert ? "hidden_size" : "n_embd";
    expect(refused(family, { [key]: 25 }).message).toContain("not divisible");
  });
});

describe("variants that are not computed", () => {
  it.each([
    [bert, "hidden_act", "gelu_new"],
    [bert, "hidden_act", "relu"],
    [bert, "position_embedding_type", "relative_key"],
    [bert, "is_decoder", true],
    [bert, "tie_word_embeddings", false],
    [bert, "pruned_heads", { 0: [1] }],
    [bert, "quantization_config", { quant_method: "bitsandbytes" }],
    [gpt2, "activation_function", "gelu"],
    [gpt2, "scale_attn_weights", false],
    [gpt2, "scale_attn_by_inverse_layer_idx", true],
    [gpt2, "add_cross_attention", true],
    [gpt2, "tie_word_embeddings", false],
  ] as const)("%s, %s: %s", (family, key, value) => {
    const error = refused(family, { [key]: value });
    expect(error.key).toBe(key);
    expect(error.message).toContain(JSON.stringify(value));
  });
});

describe("what the families' configs say beside their sizes", () => {
  it("takes four times the hidden size where GPT-2 names no intermediate size", () => {
    expect(gpt2.fromHuggingFace({ ...fixture(gpt2), n_inner: null }).intermediateSize).toBe(4 * 32);
  });

  it("keeps BERT's padding token, also if there is none", () => {
    expect(bert.fromHuggingFace({ ...fixture(bert), pad_token_id: null }).padToken).toBeNull();
    const five = bert.fromHuggingFace({ ...fixture(bert), pad_token_id: 5 });
    expect(five.padToken).toBe(5);
    expect(bert.toHuggingFace(five).pad_token_id).toBe(5);
  });

  it("keeps GPT-2's three dropout rates", () => {
    const rates = { resid_pdrop: 0.1, attn_pdrop: 0.2, embd_pdrop: 0.3 };
    const config = gpt2.fromHuggingFace({ ...fixture(gpt2), ...rates });
    expect(gpt2.toHuggingFace(config)).toMatchObject(rates);
  });
});
