import { cp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openSafetensors } from "@espalier/checkpoints";
import { describeGrowthMap, deserializeGrowthMap, hashGrowthMap, type JsonObject } from "@espalier/core";
import type { StepProfile } from "@espalier/trainer";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { espalier, makeFolder } from "./testing/espalier.js";

let folder: Awaited<ReturnType<typeof makeFolder>>;
let trained: { readonly finalEvalLoss: number };
const at = (...path: string[]): string => join(folder.path, ...path);

async function json<Result>(...args: string[]): Promise<Result> {
  const { code, stdout, stderr } = await espalier([...args, "--json"], { cwd: folder.path });
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Result;
}

beforeAll(async () => {
  folder = await makeFolder();
  trained = await json(
    "run",
    "tiny.yaml",
    "training.steps=8",
    "growth.schedule.at=[0, 0.25, 0.5]",
    "--out",
    "trained",
  );
}, 120_000);
afterAll(() => folder.remove());

interface Probe {
  readonly loss: number;
  readonly logits: readonly (readonly (readonly number[])[])[];
  readonly gradNorms: { readonly [name: string]: number };
  readonly globalGradNorm: number;
  readonly losses?: readonly number[];
}

describe("espalier probe", () => {
  beforeAll(async () => {
    await writeFile(
      at("batch.json"),
      JSON.stringify({
        input_ids: [
          [5, 9, 17, 3],
          [8, 2, 4, 0],
        ],
        attention_mask: [
          [1, 1, 1, 1],
          [1, 1, 1, 0],
        ],
        labels: [
          [5, 9, 17, 3],
          [8, 2, 4, -100],
        ],
      }),
    );
  });

  beforeAll(async () => {
    const whole = { input_ids: [[5]], labels: [[5]] };
    for (const [name, batch] of Object.entries({
      "no-rows": { input_ids: [], labels: [] },
      "no-tokens": { input_ids: [[]], labels: [[]] },
      mask: { ...whole, attention_mask: [[2]] },
      key: { ...whole, input_idz: [[5]] },
    }))
      await writeFile(at(`${name}.json`), JSON.stringify(batch));
  });

  it("gives loss, all logits and gradient norms", async () => {
    const probe = await json<Probe>("probe", "trained", "--batch", "batch.json", "--threads", "1");
    expect(probe.logits).toHaveLength(2);
    expect(probe.logits[1]).toHaveLength(4);
    expect(probe.logits[1]![3]).toHaveLength(300);
    // The loss is the mean over the five counted positions, each shifted by one.
    const counted = [
      [0, 0, 9],
      [0, 1, 17],
      [0, 2, 3],
      [1, 0, 2],
      [1, 1, 4],
    ] as const;
    const losses = counted.map(([row, column, label]) => {
      const logits = probe.logits[row]![column]!;
      return Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - logits[label]!;
    });
    expect(probe.loss).toBeCloseTo(losses.reduce((sum, loss) => sum + loss, 0) / 5, 4);
    const squares = Object.values(probe.gradNorms).reduce((sum, norm) => sum + norm ** 2, 0);
    expect(probe.globalGradNorm).toBeCloseTo(Math.sqrt(squares), 4);
    expect(Object.keys(probe.gradNorms)).toContain("transformer.h.3.mlp.c_proj.weight");
  });

  it("runs a layer map, and trains on the batch without writing", async () => {
    const before = await readFile(at("trained", "checkpoints", "step-8", "model.safetensors"));
    const probe = await json<Probe>(
      ...["probe", "trained", "--batch", "batch.json", "--layer-map", "0,0,1", "--train-steps", "3"],
      ...["--learning-rate", "0.01", "--weight-decay", "0.1", "--clip", "1", "--threads", "1"],
    );
    expect(Object.keys(probe.gradNorms).some((name) => name.includes("h.2."))).toBe(false);
    expect(probe.losses).toHaveLength(3);
    expect(probe.losses![0]).toBeCloseTo(probe.loss, 6);
    expect(probe.losses![2]).toBeLessThan(probe.losses![0]!);
    expect((await readFile(at("trained", "checkpoints", "step-8", "model.safetensors"))).equals(before)).toBe(
      true,
    );
  });

  it.concurrent.each([
    ["a layer that is not there", ["--batch", "batch.json", "--layer-map", "0,9"], "0..3"],
    ["a layer map that is none", ["--batch", "batch.json", "--layer-map", "0,,1"], "--layer-map 0,,1"],
    ["a layer map of letters", ["--batch", "batch.json", "--layer-map", "0,a"], 'given "a"'],
    ["a missing batch", ["--batch", "none.json"], 'no batch file "none.json"'],
    ["a batch that is no batch", ["--batch", "tiny.yaml"], "not JSON"],
    ["a batch without rows", ["--batch", "no-rows.json"], "input_ids is empty: it needs at least one row"],
    ["an empty row", ["--batch", "no-tokens.json"], "input_ids.0 is empty: a row needs at least one number"],
    ["a mask of twos", ["--batch", "mask.json"], "attention_mask.0.0 must be 0 or 1"],
    ["another key", ["--batch", "key.json"], "has keys that a batch does not have (input_idz)"],
  ])("refuses %s", async (_, args, message) => {
    const { code, stderr } = await espalier(["probe", "trained", ...args], { cwd: folder.path });
    expect(code, stderr).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe("espalier evaluate", () => {
  it("takes the run's own definition and finds the run's own loss", async () => {
    const result = await json<{ loss: number; perplexity: number; depth: number }>("evaluate", "trained");
    expect(result.loss).toBeCloseTo(trained.finalEvalLoss, 6);
    expect(result.perplexity).toBeCloseTo(Math.exp(result.loss), 6);
    expect(result.depth).toBe(4);
  });

  it("takes a definition and overrides", async () => {
    const result = await json<{ sequences: number; step: number }>(
      ...[
        "evaluate",
        "trained/checkpoints/step-4",
        "tiny.yaml",
        "evaluation.batches=1",
        "training.batchSize=3",
      ],
    );
    expect(result).toMatchObject({ sequences: 3, step: 4 });
  });
});

describe("espalier sample", () => {
  it("continues a prompt, the same for the same seed", async () => {
    const args = ["sample", "trained", "--prompt", "the people", "--tokens", "12", "--top-k", "50"];
    const once = await espalier([...args, "--seed", "3"], { cwd: folder.path });
    expect(once.code, once.stderr).toBe(0);
    expect(once.stdout.startsWith("the people")).toBe(true);
    expect(once.stdout.length).toBeGreaterThan("the people\n".length);
    const twice = await espalier([...args, "--seed", "3"], { cwd: folder.path });
    expect(twice.stdout).toBe(once.stdout);
  });
});

describe("espalier grow", () => {
  it("writes a checkpoint that a definition starts from, moments along", async () => {
    const { code, stdout, stderr } = await espalier(
      ["grow", "trained", "--using", "stackbert", "moments=carry", "--to", "depth=8", "-o", "grown"],
      { cwd: folder.path },
    );
    expect(code, stderr).toBe(0);
    expect(stdout).toContain("grown by stacking from 4×16");
    expect(stdout).toMatch(/\nlayers: 0 1 2 3 0 1 2 3\ngrowth map: [0-9a-f]{64}\n$/);
    expect((await readdir(at("grown"))).sort()).toEqual([
      "config.json",
      "model.safetensors",
      "optimizer.safetensors",
      "tokenizer.json",
    ]);
    const small = await openSafetensors(at("trained", "checkpoints", "step-8", "model.safetensors"));
    const large = await openSafetensors(at("grown", "model.safetensors"));
    const name = (layer: number): string => `transformer.h.${layer}.mlp.c_fc.weight`;
    expect(await large.readFloats(name(6))).toEqual(await small.readFloats(name(2)));
    await small.close();
    await large.close();
    const { steps } = await json<{ steps: number }>(
      ...["run", "tiny.yaml", "model.depth=8", "growth.preset=scratch", "growth.schedule=scratch"],
      ...["start=grown", "training.steps=2", "--out", "from-grown"],
    );
    expect(steps).toBe(2);
  });

  it("describes a growth and writes its map, and grows nothing without a folder for it", async () => {
    const grow = ["grow", "trained", "--using", "stacking", "width=fpi", "--to", "intermediateSize=128"];
    const { code, stdout, stderr } = await espalier([...grow, "--describe", "--map", "described.json"], {
      cwd: folder.path,
    });
    expect(code, stderr).toBe(0);
    const map = deserializeGrowthMap(JSON.parse(await readFile(at("described.json"), "utf8")) as JsonObject);
    expect(stdout).toBe(`${describeGrowthMap(map)}\ngrowth map: ${hashGrowthMap(map)}\n`);
    expect(stdout).toContain("transformer.h.{0-3}.mlp.c_fc.weight = transformer.h.{0-3}.*[-, 128 by index]");
    const refused = await espalier(grow, { cwd: folder.path });
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain("required option '-o, --out <dir>' not specified");
  });

  it("knows the plugins of the checkpoint's run, and those of --plugin from the current folder", async () => {
    const example = fileURLToPath(new URL("../../../docs/examples/append-top/", import.meta.url));
    await cp(example, at("append-top"), { recursive: true });
    await cp(at("trained"), at("elsewhere", "with-plugin"), { recursive: true });
    const lock = JSON.parse(await readFile(at("trained", "lock.json"), "utf8")) as { definition: object };
    await writeFile(
      at("elsewhere", "with-plugin", "lock.json"),
      JSON.stringify({ ...lock, definition: { ...lock.definition, plugins: ["./append-top"] } }),
    );
    const growth = ["--using", "append-top", "--to", "depth=6", "--describe"];
    const byRun = await espalier(["grow", "with-plugin", ...growth], { cwd: at("elsewhere") });
    expect(byRun.code, byRun.stderr).toBe(0);
    expect(byRun.stdout).toContain("append-top: 4×16");
    expect(byRun.stdout).toContain("layers: 0 1 2 3 2 3");
    const named = await espalier(["grow", "../trained", ...growth, "--plugin", "../append-top"], {
      cwd: at("elsewhere"),
    });
    expect(named.stdout).toBe(byRun.stdout);
    const unknown = await espalier(["grow", "trained", ...growth, "--plugin", "append-top"], {
      cwd: folder.path,
    });
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toContain("write ./append-top");
    await rm(at("append-top"), { recursive: true });
    const without = await espalier(
      ["grow", "with-plugin", "--using", "stacking", "--to", "depth=6", "--describe"],
      { cwd: at("elsewhere") },
    );
    expect(without.code, without.stderr).toBe(0);
    expect(without.stderr).toContain('there is no plugin at "./append-top"');
  });

  it("resets every moment of every layer where that is asked for, whatever the width operator does", async () => {
    const { code, stderr } = await espalier(
      [
        ...["grow", "trained", "--using", "interpolation", "width=fpi", "moments=reset"],
        ...["--to", "depth=8,intermediateSize=128", "-o", "reset"],
      ],
      { cwd: folder.path },
    );
    expect(code, stderr).toBe(0);
    const optimizer = await openSafetensors(at("reset", "optimizer.safetensors"));
    const kept = new Set<string>();
    for (const name of optimizer.tensors.keys())
      if ((await optimizer.readFloats(name)).some((value) => value !== 0)) kept.add(name);
    await optimizer.close();
    expect([...kept].filter((name) => name.includes(".h."))).toEqual([]);
    expect([...kept].some((name) => name.includes("wte"))).toBe(true);
  });

  it("widens a trained checkpoint, and the logits stay where every unit is copied equally often", async () => {
    const to = "hiddenSize=32,attentionHeads=4,intermediateSize=128";
    const { code, stdout, stderr } = await espalier(
      ["grow", "trained", "--using", "bert2bert-fpi", "--map", "map.json", "--to", to, "-o", "wide"],
      { cwd: folder.path },
    );
    expect(code, stderr).toBe(0);
    expect(stdout).toContain("grown by fpi from 4×16");
    const map = deserializeGrowthMap(JSON.parse(await readFile(at("map.json"), "utf8")) as JsonObject);
    expect(map).toMatchObject({ expander: "fpi", from: { hiddenSize: 16 }, to: { hiddenSize: 32 } });
    const tokens = [[5, 9, 13, 40, 7]];
    await writeFile(at("wide-batch.json"), JSON.stringify({ input_ids: tokens, labels: tokens }));
    const [small, large] = await Promise.all(
      ["trained", "wide"].map(async (path) =>
        (await json<Probe>("probe", path, "--batch", "wide-batch.json")).logits.flat(2),
      ),
    );
    const furthest = Math.max(...small!.map((logit, index) => Math.abs(logit - large![index]!)));
    expect(furthest).toBeLessThan(1e-5);
  });

  it.concurrent.each([
    ["an unknown operator", ["--using", "stackin", "--to", "depth=8"], 'did you mean "stacking"'],
    ["an axis that is given twice", ["--using", "stacking", "--to", "depth=8,depth=6"], "gives depth twice"],
    [
      "a seed that is none, saying that 0 is one",
      ["--using", "stacking", "--to", "depth=8", "--seed", "x"],
      "expected a whole number of at least 0",
    ],
    ["an unknown axis", ["--using", "stacking", "--to", "dept=8"], 'did you mean "depth"'],
    ["an unknown option", ["--using", "stacking", "momens=carry", "--to", "depth=8"], '"moments"'],
    ["a shape that is smaller", ["--using", "stacking", "--to", "depth=2"], "shallower"],
    ["a shape that is the same", ["--using", "stacking", "--to", "depth=4"], "that shape already"],
    [
      "a width that is smaller, naming the file",
      ["--using", "fpi", "--to", "hiddenSize=8,attentionHeads=1"],
      /hiddenSize falls from 16 to 8.*config\.json/s,
    ],
    [
      "heads of another size, saying which are found and which fit",
      ["--using", "bert2bert", "--to", "hiddenSize=32"],
      /2 heads of 8 channels.*16 each.*attentionHeads=4/s,
    ],
    [
      "width that the operator cannot grow",
      ["--using", "stacking", "--to", "depth=8,hiddenSize=32"],
      "hiddenSize",
    ],
  ])("refuses %s", async (_, args, message) => {
    const { code, stderr } = await espalier(["grow", "trained", ...args, "-o", "refused"], {
      cwd: folder.path,
    });
    expect(code, stderr).toBe(2);
    expect(stderr).toMatch(message);
    expect(await readdir(folder.path)).not.toContain("refused");
  });
});

describe("espalier bench", () => {
  it("times steps and growth without a corpus", async () => {
    const result = await json<{ [key: string]: unknown }>(
      ...["bench", "tiny.yaml", "data.corpus.files=nowhere.txt", "--steps", "2", "--warmup", "1"],
    );
    expect(result).toMatchObject({
      backend: expect.any(String),
      device: expect.any(String),
      precision: "fp32",
      depth: 4,
      tokensPerSecond: expect.any(Number),
      stepSeconds: expect.any(Number),
      growthSeconds: expect.any(Number),
      peakBytes: expect.any(Number),
    });
    const { code, stderr } = await espalier(["bench", "tiny.yaml", "--depth", "9"], { cwd: folder.path });
    expect(code).toBe(2);
    expect(stderr).toContain("--depth 9 is deeper than the model");
  });

  it("profiles a step whose matrix products are those of the cost model", async () => {
    const { profile, flopsPerStep, uniqueLayers, depth } = await json<{
      flopsPerStep: number;
      uniqueLayers: number;
      depth: number;
      profile: StepProfile;
    }>(
      ...["bench", "tiny.yaml", "--backend", "libtorch", "--profile", "--unique", "2", "--steps", "2"],
      "training.gradientAccumulation=2",
    );
    expect({ uniqueLayers, depth }).toEqual({ uniqueLayers: 2, depth: 4 });
    expect(profile.floor!.flops).toBe(flopsPerStep);
    expect(profile.products.reduce((sum, { flops }) => sum + flops, 0)).toBeLessThanOrEqual(flopsPerStep);
    expect(profile.waits).toEqual([]);
    expect(profile.phases.map(({ name }) => name)).toEqual([
      "batch",
      "forward",
      "loss and backward",
      "optimizer",
    ]);
    const { nativeMilliseconds, javascript, milliseconds, kernels, operators } = profile;
    const sum = (rows: readonly { milliseconds: number }[]) =>
      rows.reduce((total, row) => total + row.milliseconds, 0);
    expect(nativeMilliseconds + javascript.milliseconds).toBeCloseTo(milliseconds, 9);
    expect(sum(kernels)).toBeCloseTo(nativeMilliseconds, 9);
    expect(sum(operators)).toBeCloseTo(nativeMilliseconds, 9);
    // Once for each optimizer step, whatever the number of micro-steps.
    expect(kernels.find(({ name }) => name === "EspalierGlobalNorm")!.count).toBe(1);
    expect(profile.memory!.peakBytes).toBeGreaterThan(0);
  });

  it("times every depth, with the dropout that is asked for", async () => {
    const { depths, depth } = await json<{
      depth: number;
      depths: { steps: { depth: number; layerSeconds: number }[]; secondsPerLayer: number };
    }>(
      ...["bench", "tiny.yaml", "--depths", "--dropout", "0", "--steps", "1", "--warmup", "1"],
      "model.depth=2",
      "growth.schedule.depths=[1, 2]",
      "growth.schedule.at=[0, 0.5]",
    );
    expect(depth).toBe(2);
    expect(depths.steps.map((step) => step.depth)).toEqual([1, 2]);
    expect(depths.secondsPerLayer).toEqual(expect.any(Number));
  });

  it.each([
    ["option '--depths' cannot be used with option '--depth <number>'", ["--depths", "--depth", "2"]],
    ["expected a number of at least 0", ["--dropout", "-1"]],
    ["--unique 5 is more than the 4 layers that are executed", ["--unique", "5"]],
    ["expected a whole number of at least 1", ["--unique", "none"]],
    ["unknown option '--profil'", ["--profil"]],
  ])("refuses: %s", async (message, flags) => {
    const { code, stderr } = await espalier(["bench", "tiny.yaml", ...flags], { cwd: folder.path });
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe("espalier doctor", () => {
  it("says which backend is chosen, and what each one lacks", async () => {
    const result = await json<{
      backend: string;
      backends: { name: string; usable: boolean; why: string }[];
    }>(...["doctor", "--backend", "wasm"]);
    expect(result).toMatchObject({ backend: "wasm", device: "cpu", threads: expect.any(Number) });
    expect(result.backends.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["libtorch", "tensorflow", "webgpu", "wasm"]),
    );
    for (const { why } of result.backends) expect(why).not.toBe("");
  });
});

describe("espalier plugin list", () => {
  it("lists strategies with the JSON Schema of their options", async () => {
    const { plugins } = await json<{
      plugins: {
        name: string;
        version: string;
        strategies: { kind: string; name: string; options: { properties: object } }[];
        presets: { name: string }[];
      }[];
    }>("plugin", "list");
    const apollo = plugins.find(({ name }) => name === "@espalier/plugin-apollo-lvps")!;
    expect(apollo.version).toMatch(/^\d/);
    expect(apollo.presets).toMatchObject([{ name: "apollo" }]);
    const lvps = apollo.strategies.find(({ name }) => name === "lvps")!;
    expect(Object.keys(lvps.options.properties)).toEqual(expect.arrayContaining(["end", "offset", "xMin"]));
    const { stdout } = await espalier(["plugin", "list"], { cwd: folder.path });
    expect(stdout).toContain("depth sampler lvps:");
    expect(stdout).toContain("end (number, default 0.6)");
  });

  it("shows a plugin that is given by its path", async () => {
    const example = fileURLToPath(new URL("../../../docs/examples/append-top", import.meta.url));
    const { code, stdout, stderr } = await espalier(["plugin", "list", "--plugin", example], {
      cwd: folder.path,
    });
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/append-top \d+\.\d+\.\d+ \(command line\)\n.*\n {2}expander append-top:/);
  });
});

describe("espalier --help", () => {
  it.concurrent.each([
    "setup",
    "doctor",
    "plan",
    "run",
    "compare",
    "evaluate",
    "sample",
    "grow",
    "probe",
    "bench",
    "plugin",
    "plugin list",
    "schema",
  ])("has an example: %s", async (words) => {
    const { code, stdout } = await espalier([...words.split(" "), "--help"], { cwd: folder.path });
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples?:\n {2}\$ espalier /);
  });
});
