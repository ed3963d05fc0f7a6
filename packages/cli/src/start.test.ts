import { cp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openCheckpoint, type TensorToWrite, writeCheckpointFolder } from "@espalier/checkpoints";
import type { JsonObject } from "@espalier/core";
import { modelDescriptions } from "@espalier/models/descriptions";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Ended, espalier, makeFolder, readLines } from "./testing/espalier.js";

const [tokens, paddedRows, hiddenSize] = [300, 320, 16];
const onlyTwoLayers = ["model.depth=2", "growth.schedule=scratch", "growth.sampler=unique"];
const fileOf = (path: string): string => `data.tokenizer={ kind: file, path: ${path} }`;

let folder: Awaited<ReturnType<typeof makeFolder>>;
const at = (...path: string[]): string => join(folder.path, ...path);
const run = (out: string, ...args: string[]): Promise<Ended> =>
  espalier(["run", "tiny.yaml", ...onlyTwoLayers, ...args, "--out", out], { cwd: folder.path });

async function succeeds(ended: Promise<Ended>): Promise<void> {
  const { code, stderr } = await ended;
  expect(code, stderr).toBe(0);
}

async function firstLoss(out: string): Promise<number> {
  const lines = await readLines<{ kind?: string; step: number; loss?: number }>(at(out, "metrics.jsonl"));
  return lines.find(({ loss }) => loss !== undefined)!.loss!;
}

/** A Hugging Face folder again, with an embedding of more rows than the tokenizer has tokens. */
async function pad(from: string, to: string): Promise<void> {
  const checkpoint = await openCheckpoint(at(from));
  try {
    const model = [...checkpoint.weights.tensors].map(([name, { shape }]): TensorToWrite => {
      const isEmbedding = name === "transformer.wte.weight";
      return {
        name,
        type: "F32",
        shape: isEmbedding ? [paddedRows, hiddenSize] : shape,
        async data() {
          const values = await checkpoint.weights.readFloats(name);
          if (!isEmbedding) return values;
          const padded = new Float32Array(paddedRows * hiddenSize);
          padded.set(values);
          return padded;
        },
      };
    });
    const config = JSON.parse(await readFile(at(from, "config.json"), "utf8")) as JsonObject;
    await writeCheckpointFolder(at(to), {
      model,
      optimizer: null,
      state: null,
      config: { ...config, vocab_size: paddedRows },
      tokenizerJson: await readFile(at(from, "tokenizer.json"), "utf8"),
    });
  } finally {
    await checkpoint.close();
  }
}

/** A tokenizer of the same size in which two tokens have changed places. */
async function swapTokens(from: string, to: string): Promise<void> {
  const json = JSON.parse(await readFile(at(from), "utf8")) as { model: { vocab: Record<string, number> } };
  const { vocab } = json.model;
  const [one, other] = Object.keys(vocab).slice(100, 102) as [string, string];
  json.model.vocab = { ...vocab, [one]: vocab[other]!, [other]: vocab[one]! };
  await writeFile(at(to), JSON.stringify(json));
}

/** A BERT in the folder, as far as a run looks at it before it refuses. */
async function writeBert(to: string): Promise<void> {
  const bert = modelDescriptions.find(({ name }) => name === "bert")!;
  const shape = { depth: 2, hiddenSize: 16, attentionHeads: 2, intermediateSize: 64 };
  const sizes = { vocabSize: tokens, maxPositions: 16, dropout: 0, initializerRange: 0.02 };
  const config = { ...bert.defaults, family: "bert", ...shape, ...sizes };
  await writeCheckpointFolder(at(to), {
    model: bert.parameters(config).map(({ name, shape: sides }) => ({
      name,
      type: "F32",
      shape: sides,
      data: () => new Float32Array(sides.reduce((product, size) => product * size, 1)),
    })),
    optimizer: null,
    state: null,
    config: bert.toHuggingFace(config),
  });
}

beforeAll(async () => {
  folder = await makeFolder();
  await succeeds(run("source", "training.steps=20"));
  await succeeds(espalier(["export", "source", "--out", "exported"], { cwd: folder.path }));
  await pad("exported", "padded");
  await cp(at("exported"), at("bare"), { recursive: true });
  await rm(at("bare", "tokenizer.json"));
  await swapTokens("exported/tokenizer.json", "other.json");
  await writeBert("bert");
}, 60_000);
afterAll(() => folder.remove());

describe("start: a Hugging Face folder", () => {
  it("trains on from what was exported", async () => {
    await succeeds(run("later", "start=exported", "training.steps=2"));
    expect(await firstLoss("later")).toBeLessThan((await firstLoss("source")) - 0.05);
  });

  it("keeps the rows that no token has, in training, evaluation and growth", async () => {
    await succeeds(run("same", "start=exported", "training.steps=2", fileOf("exported/tokenizer.json")));
    const rest = ["start=padded", "training.steps=2", fileOf("padded/tokenizer.json")];
    await succeeds(run("kept", ...rest));
    // Rows of zeros are scored 0, as e⁰ of a softmax over about as many equal scores: 20 rows more are ln(320/300).
    const more = (await firstLoss("kept")) - (await firstLoss("same"));
    expect(more).toBeGreaterThan(0);
    expect(more).toBeLessThan(Math.log(paddedRows / tokens) + 0.05);
    await succeeds(espalier(["evaluate", "kept"], { cwd: folder.path }));
    await succeeds(espalier(["export", "kept", "--out", "again"], { cwd: folder.path }));
    const config = JSON.parse(await readFile(at("again", "config.json"), "utf8")) as { vocab_size: number };
    expect(config.vocab_size).toBe(paddedRows);
    const wider = ["model.hiddenSize=32", "model.attentionHeads=4", "growth.schedule=from-source"];
    await succeeds(run("wider", ...rest, ...wider, "growth.expander=aki"));
  });

  it.each<[what: string, args: () => string[], expected: () => string[]]>([
    [
      "of another family",
      () => ["model.family=bert", "objective=masked-lm", "start=source"],
      () => [`the checkpoint "${at("source")}" is a model of the family gpt2, but "model.family" is bert`],
    ],
    [
      "of another family, the other way round",
      () => ["start=bert"],
      () => [`the checkpoint "${at("bert")}" is a model of the family bert, but "model.family" is gpt2`],
    ],
    [
      "with another tokenizer",
      () => ["start=exported", fileOf("other.json")],
      () => [
        `the source's tokenizer is ${at("exported", "tokenizer.json")}`,
        `the run's ${at("other.json")} (`,
        `path: ${at("exported", "tokenizer.json")}`,
        "key:  data.tokenizer",
      ],
    ],
    [
      "without a tokenizer, where the run would train one",
      () => ["start=bare"],
      () => [`the source ${at("bare")} has no tokenizer.json`, "data.tokenizer.kind: bpe", "kind: file"],
    ],
    [
      "with padded rows, where the run would train a tokenizer",
      () => ["start=padded"],
      () => ["vocabSize 320 instead of 300", "data.tokenizer: { kind: file"],
    ],
  ])("refuses one %s", async (_, args, expected) => {
    const { code, stdout, stderr } = await run("refused", ...args());
    expect(code, stderr).toBe(2);
    for (const part of expected()) expect(stderr).toContain(part);
    expect(stderr).toMatch(/^ +file: (tiny\.yaml|command line)/m);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(stdout).toBe("");
    await expect(stat(at("refused"))).rejects.toThrow();
  });

  it("takes one without a tokenizer where the definition names a file", async () => {
    await succeeds(run("named", "start=bare", "training.steps=2", fileOf("exported/tokenizer.json")));
  });
});
