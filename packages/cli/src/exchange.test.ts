import { mkdir, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  openSafetensors,
  stepFolder,
  type TensorToWrite,
  writeCheckpointFolder,
  writeStep,
} from "@espalier/checkpoints";
import type { JsonObject, ModelConfig } from "@espalier/core";
import { modelDescriptions } from "@espalier/models/descriptions";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { espalier, makeFolder, tiny } from "./testing/espalier.js";

const gpt2 = modelDescriptions.find(({ name }) => name === "gpt2")!;
const config: ModelConfig = {
  family: "gpt2",
  depth: 2,
  hiddenSize: 8,
  attentionHeads: 2,
  intermediateSize: 32,
  vocabSize: 20,
  maxPositions: 6,
  dropout: 0,
  layerNormEpsilon: 1e-5,
  initializerRange: 0.02,
  tokenTypes: 0,
};

let folder: Awaited<ReturnType<typeof makeFolder>>;
const at = (...path: string[]): string => join(folder.path, ...path);
const run = (...args: string[]) => espalier(args, { cwd: folder.path });

/** Numbers that tell a tensor by its name. */
function model(): TensorToWrite[] {
  return gpt2.parameters(config).map(({ name, shape }, index) => ({
    name,
    type: "F32",
    shape,
    data: () => new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(index + 0.5),
  }));
}

async function write(
  name: string,
  tensors = model(),
  changes: JsonObject = {},
  tokenizerJson?: string,
): Promise<void> {
  await writeCheckpointFolder(at(name), {
    model: tensors,
    optimizer: null,
    state: null,
    config: { ...gpt2.toHuggingFace(config), ...changes },
    ...(tokenizerJson === undefined ? {} : { tokenizerJson }),
  });
}

beforeAll(async () => {
  folder = await makeFolder();
  await write("gpt2");
});
afterAll(() => folder.remove());

describe("espalier export", () => {
  it("finds a run's plugins and corpus where its definition was, for its source's folder, too", async () => {
    await writeFile(
      at("reversed.mjs"),
      `const options = { safeParse: (data) => ({ success: true, data }) };
      const create = () => (unique, depth) => Array.from({ length: depth }, (_, l) => (depth - 1 - l) % unique);
      export default { name: "reversed", contract: 1, presets: [],
        strategies: [{ kind: "layerMapping", name: "reversed", description: "", options, needs: [], create }] };`,
    );
    const shared = "growth: { preset: scratch, sharing: reversed }";
    const model = "model: { family: gpt2, depth: 2, hiddenSize: 16, attentionHeads: 2, dropout: 0 }";
    await writeFile(
      at("plugged.yaml"),
      `${tiny.slice(0, tiny.indexOf("model:"))}plugins: [./reversed.mjs]
${model}
start: { ${model}, ${shared}, training: { steps: 1, batchSize: 2 } }
${tiny.slice(tiny.indexOf("data:"), tiny.indexOf("growth:"))}${shared}
training: { steps: 1, batchSize: 2 }
`,
    );
    const trained = await run("run", "plugged.yaml", "--out", "runs/plugged");
    expect(trained.code, trained.stderr).toBe(0);
    for (const [index, checkpoint] of ["runs/plugged", "runs/plugged/start"].entries()) {
      const exported = await run("export", checkpoint, "-o", `reversed-${index}`, "--depth", "4");
      expect(exported.stdout, exported.stderr).toContain("layers 1,0,1,0");
    }
    const evaluated = await run("evaluate", "runs/plugged/start");
    expect(evaluated.stdout, evaluated.stderr).toMatch(/^loss \d/);

    await rm(at("reversed.mjs"));
    const { code, stderr } = await run("evaluate", "runs/plugged");
    expect(code).toBe(2);
    expect(stderr).toContain(`there is no plugin at "./reversed.mjs" (${at("reversed.mjs")})`);
    expect(stderr).toContain(at("plugged.yaml"));
  });

  it("writes layers as they are, or by a layer map", async () => {
    expect(await run("export", "gpt2", "-o", "plain")).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('GPT2LMHeadModel.from_pretrained("plain")'),
      stderr: expect.stringContaining("without a tokenizer"),
    });
    expect((await readdir(at("plain"))).sort()).toEqual(["config.json", "model.safetensors"]);
    expect(await readFile(at("plain", "model.safetensors"))).toEqual(
      await readFile(at("gpt2", "model.safetensors")),
    );
    const { code, stdout } = await run("export", "gpt2", "--layer-map", "1,0,1", "-o", "mapped");
    expect(code).toBe(0);
    expect(stdout).toContain("layers 1,0,1");
    expect(JSON.parse(await readFile(at("mapped", "config.json"), "utf8"))).toMatchObject({ n_layer: 3 });
    const [before, after] = [
      await openSafetensors(at("gpt2", "model.safetensors")),
      await openSafetensors(at("mapped", "model.safetensors")),
    ];
    for (const [written, source] of [1, 0, 1].entries())
      expect(await after.readFloats(`transformer.h.${written}.mlp.c_fc.weight`)).toEqual(
        await before.readFloats(`transformer.h.${source}.mlp.c_fc.weight`),
      );
    await before.close();
    await after.close();
  });

  it("takes the step before a damaged one, and says so", async () => {
    const content = { model: model(), optimizer: model(), state: {}, config: gpt2.toHuggingFace(config) };
    for (const step of [5, 10]) await writeStep(at("damaged"), step, content, 2);
    await truncate(join(stepFolder(at("damaged"), 10), "optimizer.safetensors"), 900);
    const { code, stdout, stderr } = await run("export", "damaged", "-o", "before-damage");
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("step 10 is damaged or incomplete, so that step 5 is the run's last");
    expect(stdout).toContain("step-5");
  });

  it.concurrent.each([
    ["no folder to write to", ["gpt2"], "required option '-o, --out <dir>'"],
    ["a folder that has something in it", ["gpt2", "-o", "gpt2"], "gpt2 exists and is not empty"],
    ["a checkpoint that is none", ["nowhere", "-o", "x"], "nowhere is no checkpoint: it does not exist"],
    ["a step where there is no run", ["gpt2", "--step", "4", "-o", "x"], "no run folder with checkpoints"],
    ["fewer layers", ["gpt2", "--depth", "1", "-o", "x"], "--depth 1 is less than the 2 layers"],
    [
      "more layers where no run says how",
      ["gpt2", "--depth", "4", "-o", "x"],
      "--layer-map, for example 0,0,1,1",
    ],
    [
      "two depths",
      ["gpt2", "--depth", "4", "--layer-map", "0,1,1", "-o", "x"],
      "has 3 layers, but --depth is 4",
    ],
    ["a layer that is not there", ["gpt2", "--layer-map", "0,2", "-o", "x"], "0..1"],
    ["no number of layers", ["gpt2", "--depth", "many", "-o", "x"], "whole number of at least 1"],
  ])("refuses %s", async (_, args, message) => {
    const { code, stderr } = await run("export", ...args);
    expect(code, stderr).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain("    at ");
  });

  it.concurrent.each(["export", "import"])("%s has help with an example", async (command) => {
    const { code, stdout } = await run(command, "--help");
    expect(code).toBe(0);
    expect(stdout).toContain(`$ espalier ${command} `);
  });
});

describe("espalier import", () => {
  beforeAll(async () => {
    await write("untied", [
      ...model(),
      { name: "lm_head.weight", type: "F32", shape: [20, 8], data: () => new Float32Array(160) },
    ]);
    await write("longer", model(), { n_positions: 12 });
    await write("relative", model(), { model_type: "bert", position_embedding_type: "relative_key" });
    await write("llama", model(), { model_type: "llama" });
    await write("activation", model(), { activation_function: "relu" });
    await write("adapter", [
      ...model(),
      { name: "adapter.weight", type: "F32", shape: [2], data: () => new Float32Array(2) },
    ]);
    await write("cut");
    await truncate(at("cut", "model.safetensors"), 3000);
    await write("garbled", model(), {}, "{");
    const vocab = Object.fromEntries(Array.from({ length: 31 }, (_, id) => [`w${id}`, id]));
    const tokenizer = JSON.stringify({
      version: "1.0",
      added_tokens: [],
      model: { type: "WordLevel", vocab, unk_token: "w0" },
    });
    await write("other-tokenizer", model(), {}, tokenizer);
    await write("other-vocabulary", model(), { vocab_size: 31 });
    await mkdir(at("pickle"));
    await writeFile(at("pickle", "config.json"), JSON.stringify(gpt2.toHuggingFace(config)));
    await writeFile(at("pickle", "pytorch_model.bin"), "");
  });

  it("writes what was there, and says what it left out when it is told to", async () => {
    expect(await run("import", "gpt2", "-o", "same")).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(
        "imported gpt2 (gpt2 2×8, 2 heads, intermediate 32, vocabulary 20, 6 positions)",
      ),
    });
    expect(await readFile(at("same", "model.safetensors"))).toEqual(
      await readFile(at("gpt2", "model.safetensors")),
    );
    expect(await run("import", "adapter", "--leave-out", "adapter.", "-o", "without-adapter")).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("left out, as asked for: adapter.weight [2]"),
    });
    expect(await run("import", "untied", "--leave-out", "lm_head.weight", "-o", "tied")).toMatchObject({
      code: 0,
    });
  });

  it("keeps what a folder says of its special tokens, and so do export and grow", async () => {
    const vocab = Object.fromEntries(Array.from({ length: 20 }, (_, id) => [`w${id}`, id]));
    const tokenizer = {
      version: "1.0",
      added_tokens: [],
      model: { type: "WordLevel", vocab, unk_token: "w0" },
    };
    // The last id is beyond the vocabulary, like transformers' own default.
    const ids = { bos_token_id: 3, eos_token_id: 4, pad_token_id: 50256 };
    await write("special", model(), ids, JSON.stringify(tokenizer));
    const files = {
      "tokenizer_config.json": {
        tokenizer_class: "PreTrainedTokenizerFast",
        padding_side: "left",
        eos_token: "w4",
      },
      "special_tokens_map.json": { bos_token: "w3", eos_token: "w4" },
      "generation_config.json": { eos_token_id: [4, 5] },
    };
    for (const [file, json] of Object.entries(files))
      await writeFile(at("special", file), JSON.stringify(json));
    for (const [made, ...args] of [
      ["special-imported", "import", "special"],
      ["special-exported", "export", "special-imported"],
      ["special-grown", "grow", "special", "--using", "stacking", "--to", "depth=4"],
    ] as const) {
      const { code, stderr } = await run(...args, "-o", made);
      expect(code, stderr).toBe(0);
      const read = async (file: string): Promise<JsonObject> =>
        JSON.parse(await readFile(at(made, file), "utf8"));
      expect(await read("config.json")).toMatchObject({ bos_token_id: 3, eos_token_id: 4 });
      expect((await read("config.json")).pad_token_id).toBeUndefined();
      for (const [file, json] of Object.entries(files)) expect(await read(file), made).toEqual(json);
    }
  });

  it.concurrent.each([
    ["grow", ["--using", "stacking", "--to", "depth=4", "-o", "refused-by-grow"]],
    ["probe", ["--batch", "batch.json"]],
  ])("%s refuses the same folders", async (command, args) => {
    await writeFile(at("batch.json"), JSON.stringify({ input_ids: [[1, 2]], labels: [[1, 2]] }));
    for (const [name, message] of [
      ["untied", "160 of 160 numbers differ"],
      ["adapter", "espalier import adapter --leave-out adapter. -o DIR"],
    ] as const) {
      const { code, stderr } = await run(command, name, ...args);
      expect(code, stderr).toBe(2);
      expect(stderr).toContain(message);
    }
    expect(await readdir(folder.path)).not.toContain("refused-by-grow");
  });

  it.concurrent.each([
    ["untied weights", "untied", 2, /"lm_head\.weight" \(the head\) is untied .* 160 of 160 numbers differ/],
    [
      "another position length",
      "longer",
      2,
      /"transformer\.wpe\.weight" has the shape \[6,8\].*positions 6 instead of 12/,
    ],
    ["another vocabulary", "other-vocabulary", 2, /vocabulary 20 instead of 31/],
    [
      "the tokenizer of another model",
      "other-tokenizer",
      2,
      /tokenizer\.json has 31 tokens, but the model only 20/,
    ],
    ["relative positions", "relative", 2, /"position_embedding_type" is "relative_key"/],
    ["another activation", "activation", 2, /"activation_function" is "relu"/],
    ["another family", "llama", 2, /no model family reads the model_type "llama"; there are/],
    [
      "tensors that nobody knows",
      "adapter",
      2,
      /"adapter\.weight" \[2\] belongs to nothing[\s\S]*--leave-out adapter\./,
    ],
    [
      "a pickle",
      "pickle",
      2,
      /pytorch_model\.bin, a PyTorch pickle[\s\S]*save_pretrained\("pickle-safetensors"/,
    ],
    [
      "a file that is cut off",
      "cut",
      1,
      /cut\/model\.safetensors is not a valid safetensors file: .*cut off or damaged/,
    ],
    ["a tokenizer that is none", "garbled", 1, /not a Hugging Face tokenizer\.json/],
  ])("refuses %s", async (_, name, exitCode, message) => {
    const { code, stderr } = await run("import", name, "-o", `refused-${name}`);
    expect(code, stderr).toBe(exitCode);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain("    at ");
    expect((await readdir(folder.path)).filter((each) => each.includes(`refused-${name}`))).toEqual([]);
  });
});
