import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { definitionJsonSchema, definitionSchema } from "./schema.js";

const smallest = {
  name: "smallest",
  model: { family: "gpt2", depth: 2, hiddenSize: 8, attentionHeads: 2 },
  data: { corpus: "sotu", tokenizer: { kind: "bpe", vocabSize: 300 } },
  training: { steps: 10 },
};

describe("the definition's schema", () => {
  it("fills in every default", () => {
    const definition = definitionSchema.parse(smallest);
    expect(definition).toMatchObject({
      seed: 42,
      start: "none",
      backend: "auto",
      device: "auto",
      threads: "auto",
      model: { dropout: 0.1, initializerRange: 0.02 },
      data: { sequenceLength: 128, validationShare: 0.05 },
      training: {
        batchSize: 16,
        gradientAccumulation: 1,
        precision: "fp32",
        recompute: false,
        gradientClipNorm: 1,
      },
      evaluation: { every: 100, batches: 20 },
      checkpoints: { every: 500, keep: 2 },
      tracking: { uri: "auto" },
    });
  });

  it.each([
    ["none", {}, "there is none"],
    ["two", { steps: 10, tokens: 1000 }, "there are steps and tokens"],
    ["three", { steps: 10, tokens: 1000, flops: 1e9 }, "there are steps and tokens and flops"],
  ])("wants exactly one budget, not %s", (_, training, message) => {
    const parsed = definitionSchema.safeParse({ ...smallest, training });
    expect(parsed.success).toBe(false);
    expect(parsed.error?.issues[0]?.message).toContain(message);
  });

  it("is the JSON Schema in docs/ (espalier schema -o docs/definition.schema.json)", async () => {
    const file = new URL("../../../docs/definition.schema.json", import.meta.url);
    expect(JSON.parse(await readFile(file, "utf8"))).toEqual(
      JSON.parse(JSON.stringify(definitionJsonSchema())),
    );
  });

  it("describes in its JSON Schema what it accepts: names alone, options, required keys", () => {
    const schema = z.fromJSONSchema(JSON.parse(JSON.stringify(definitionJsonSchema())));
    expect(schema.safeParse(smallest).success).toBe(true);
    expect(schema.safeParse({ ...smallest, growth: { sampler: { use: "lvps", end: 0.6 } } }).success).toBe(
      true,
    );
    expect(schema.safeParse({ ...smallest, growth: { samplr: "lvps" } }).success).toBe(false);
    expect(schema.safeParse({ ...smallest, name: undefined }).success).toBe(false);
  });
});
