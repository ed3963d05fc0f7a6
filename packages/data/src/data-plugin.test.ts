import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EspalierError, type Services, type StrategyKind, type StrategyKinds } from "@espalier/core";
import { describe, expect, it } from "vitest";
import { dataPlugin } from "./data-plugin.js";

function declaration(kind: StrategyKind, name: string) {
  const found = dataPlugin.strategies.find((strategy) => strategy.kind === kind && strategy.name === name);
  if (found === undefined) throw new Error(`no ${kind} ${name}`);
  return found;
}

function create<Kind extends StrategyKind>(
  kind: Kind,
  name: string,
  options: object,
  services: Partial<Services> = {},
): StrategyKinds[Kind] {
  const found = declaration(kind, name);
  return found.create(found.options.parse(options), services) as StrategyKinds[Kind];
}

const tokenizer = { vocabSize: 50, maskToken: 4, padToken: 0, endOfText: 3, specialTokens: [0, 1, 2, 3, 4] };

describe("the data plugin", () => {
  it("declares corpora and objectives", () => {
    const names = dataPlugin.strategies.map(({ kind, name }) => `${kind} ${name}`);
    expect(names).toEqual([
      "corpus sotu",
      "corpus text",
      "corpus jsonl",
      "corpus huggingface",
      "objective causal-lm",
      "objective masked-lm",
    ]);
  });

  it("has defaults for all that has one", async () => {
    expect(declaration("corpus", "sotu").options.parse({})).toEqual({});
    expect(declaration("corpus", "text").options.parse({ files: "a" })).toEqual({
      files: "a",
      separator: "file",
    });
    expect(declaration("corpus", "jsonl").options.parse({ files: ["a"] })).toEqual({
      files: ["a"],
      field: "text",
    });
    expect(declaration("corpus", "huggingface").options.parse({ dataset: "a/b" })).toEqual({
      dataset: "a/b",
      split: "train",
      field: "text",
    });
    expect(create("objective", "masked-lm", {}, { tokenizer }).countedPositions(2, 128)).toBe(38);
    expect(create("objective", "causal-lm", {}).countedPositions(2, 128)).toBe(254);
  });

  it.each([
    ["corpus", "sotu", { year: 1990 }],
    ["corpus", "sotu", { from: 2000, to: 1990 }],
    ["corpus", "text", {}],
    ["corpus", "text", { files: [] }],
    ["corpus", "text", { files: "a", separator: "page" }],
    ["corpus", "jsonl", { files: "a", field: "" }],
    ["corpus", "huggingface", { dataset: "https://huggingface.co/datasets/a/b" }],
    ["corpus", "huggingface", { dataset: "a/b", endpoint: "hub" }],
    ["corpus", "huggingface", { dataset: "a/b", limit: 0 }],
    ["objective", "causal-lm", { probability: 0.15 }],
    ["objective", "masked-lm", { probability: 0 }],
    ["objective", "masked-lm", { maskShare: 0.9, randomShare: 0.2 }],
  ] as const)("refuses %s %s with %j", (kind, name, options) => {
    expect(declaration(kind, name).options.safeParse(options).success).toBe(false);
  });

  it("starts relative paths from the definition's folder", async () => {
    const folder = await mkdtemp(join(tmpdir(), "espalier-plugin-"));
    try {
      await writeFile(join(folder, "a.txt"), "from here");
      const corpus = create("corpus", "text", { files: "a.txt" }, { baseDirectory: folder });
      for await (const text of corpus.documents()) expect(text).toBe("from here");
      expect(() => create("corpus", "text", { files: "a.txt" })).toThrow(EspalierError);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
