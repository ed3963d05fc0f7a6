import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { openCheckpoint, type TensorToWrite, writeSafetensors } from "@espalier/checkpoints";
import type { Lock } from "@espalier/experiments";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadRegistry } from "./composition-root.js";
import { lockSource } from "./run/locked-source.js";
import { type Ended, espalier, makeFolder, readLines } from "./testing/espalier.js";

/** What `run --json` prints, as far as it is compared. */
interface Outcome {
  readonly sourceFlops: number | null;
  readonly resumedFrom: number | null;
  readonly finalEvalLoss: number;
}

const plain = ["model.depth=2", "growth.schedule=scratch", "growth.sampler=unique"];
// Long enough to be killed in, and with a checkpoint early, or only at its end.
const long = ["training.steps=40", "evaluation.every=40"];
const [early, late] = ["checkpoints.every=5", "checkpoints.every=1000"];
const small = "{ family: gpt2, depth: 2, hiddenSize: 16, attentionHeads: 2, dropout: 0.1 }";
const nested = `start={ model: ${small}, growth: { preset: scratch }, training: { steps: 3, batchSize: 2 }, start: hf }`;
const nestedArgs = [nested, "growth.schedule=scratch", "growth.sampler=unique", "model.depth=2", ...long];
const runWeights = ["model.safetensors", "optimizer.safetensors"];
const tokenizerAt = (path: string): string => `data.tokenizer={ kind: file, path: ${path} }`;

let folder: Awaited<ReturnType<typeof makeFolder>>;
const at = (...path: string[]): string => join(folder.path, ...path);
const command = (...args: string[]): Promise<Ended> => espalier(args, { cwd: folder.path });
const run = (out: string, ...args: string[]): Promise<Ended> =>
  command("run", "tiny.yaml", ...args, "--json", "--out", out);

async function succeeds(ended: Promise<Ended>): Promise<Outcome> {
  const { code, stdout, stderr } = await ended;
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Outcome;
}

/** Runs until it is killed, as soon as it says so or a path is there. */
async function killed(out: string, at: RegExp | string, ...args: string[]): Promise<void> {
  let watching: NodeJS.Timeout | undefined;
  const { signal, stderr } = await espalier(["run", "tiny.yaml", ...args, "--out", out], {
    cwd: folder.path,
    onStderr(text, child) {
      if (at instanceof RegExp) {
        if (at.test(text)) child.kill("SIGKILL");
      } else watching ??= setInterval(() => existsSync(join(folder.path, at)) && child.kill("SIGKILL"), 1);
    },
  });
  clearInterval(watching);
  expect(signal, stderr).toBe("SIGKILL");
}

/** What must be the same to the bit. */
async function course(out: string): Promise<unknown[]> {
  const lines = await readLines<Record<string, unknown>>(at(out, "metrics.jsonl"));
  return lines.map(({ step, loss, gradientNorm, flops, depths }) => [
    step,
    loss,
    gradientNorm,
    flops,
    depths,
  ]);
}
const model = (out: string): Promise<Buffer> =>
  readFile(at(out, "checkpoints", "step-40", "model.safetensors"));

async function expectSame(out: string, whole: string): Promise<void> {
  expect(await course(out)).toEqual(await course(whole));
  expect((await model(out)).equals(await model(whole))).toBe(true);
}

const lockOf = async (out: string): Promise<Lock> =>
  JSON.parse(await readFile(at(out, "lock.json"), "utf8")) as Lock;
const sha256 = (content: string | Buffer): string => createHash("sha256").update(content).digest("hex");

/** What `sha256sum *.safetensors | sha256sum` prints. */
async function sha256sums(path: string, names: readonly string[]): Promise<string> {
  const lines = names.map(async (name) => `${sha256(await readFile(join(path, name)))}  ${name}\n`);
  return sha256((await Promise.all(lines)).join(""));
}

/** Changes the sign of a file's last weight; once more changes it back. */
async function turnWeight(file: string): Promise<void> {
  const bytes = await readFile(file);
  bytes[bytes.length - 1]! ^= 0x80;
  await writeFile(file, bytes);
}

/** While something is elsewhere. */
async function without<T>(paths: readonly string[], work: () => Promise<T>): Promise<T> {
  for (const path of paths) await rename(at(path), at(`${path}.away`));
  try {
    return await work();
  } finally {
    for (const path of paths) await rename(at(`${path}.away`), at(path));
  }
}

let whole: Outcome;
beforeAll(async () => {
  folder = await makeFolder();
  const start = ["training.steps=4", "evaluation.every=4"];
  await succeeds(run("src", ...plain, ...start));
  const [ended] = await Promise.all([
    succeeds(run("whole", ...plain, ...long, late, "start=src")),
    command("export", "src", "--out", "hf"),
  ]);
  whole = ended;
  expect(existsSync(at("hf", "tokenizer.json"))).toBe(true);
}, 60_000);
afterAll(() => folder.remove());

describe("the source of a run, in its lock", () => {
  it("is there with its model, FLOPs and the hash of weights and moments", async () => {
    const { source } = await lockOf("whole");
    const step = at("src", "checkpoints", "step-4");
    expect(source).toMatchObject({
      folder: step,
      fingerprint: await sha256sums(step, runWeights),
      config: { family: "gpt2", depth: 2, hiddenSize: 16, vocabSize: 300 },
      flops: whole.sourceFlops,
    });
    expect((await lockOf("src")).source).toBeUndefined();
  });

  it("has the hash of every shard", async () => {
    await cp(at("hf"), at("sharded"), { recursive: true });
    await rm(at("sharded", "model.safetensors"));
    const { weights, close } = await openCheckpoint(at("hf"));
    const shards: [string, TensorToWrite[]][] = [
      ["model-00001-of-00002.safetensors", []],
      ["model-00002-of-00002.safetensors", []],
    ];
    const places: Record<string, string> = {};
    for (const [index, { name, shape }] of [...weights.tensors.values()].entries()) {
      const [shard, tensors] = shards[index % 2]!;
      places[name] = shard;
      const data = await weights.readFloats(name);
      tensors.push({ name, type: "F32", shape, data: () => data });
    }
    await close();
    for (const [shard, tensors] of shards) await writeSafetensors(at("sharded", shard), tensors);
    await writeFile(at("sharded", "model.safetensors.index.json"), JSON.stringify({ weight_map: places }));
    const registry = await loadRegistry();
    const names = shards.map(([name]) => name);
    expect((await lockSource(at("sharded"), registry)).fingerprint).toBe(
      await sha256sums(at("sharded"), names),
    );
    await turnWeight(at("sharded", names[1]!));
    expect((await lockSource(at("sharded"), registry)).fingerprint).toBe(
      await sha256sums(at("sharded"), names),
    );
  });
});

describe("a run that was killed before its first checkpoint", () => {
  it("begins again from the same source only; from any with the lock of an earlier version", async () => {
    const args = [...plain, ...long, late, "start=src"];
    await killed("begun", /step 1\//, ...args);
    expect(existsSync(at("begun", "checkpoints", "step-40"))).toBe(false);
    await cp(at("begun"), at("old"), { recursive: true });
    const { source, ...lock } = await lockOf("old");
    await writeFile(at("old", "lock.json"), JSON.stringify(lock));
    const before = await readFile(at("begun", "metrics.jsonl"), "utf8").catch(() => "");

    const weights = at("src", "checkpoints", "step-4", "model.safetensors");
    await turnWeight(weights);
    const { code, stdout, stderr } = await run("begun", ...args, "--resume");
    expect(code, stderr).toBe(1);
    expect(stderr).toContain(`expected ${source!.fingerprint}`);
    expect(stderr).toContain(`found ${await sha256sums(dirname(weights), runWeights)}`);
    expect(stderr).toMatch(/file: begun\/lock\.json\n +key: +source\.fingerprint\n +hint: bring the old/);
    expect(stdout).toBe("");
    await turnWeight(weights);
    const gone = await without(["src"], () => run("begun", ...args, "--resume"));
    expect(gone.code).toBe(2);
    expect(gone.stderr).toContain("src is no checkpoint: it does not exist");
    expect(await readFile(at("begun", "metrics.jsonl"), "utf8").catch(() => "")).toBe(before);

    const [resumed] = await Promise.all([
      succeeds(run("begun", ...args, "--resume")),
      succeeds(run("old", ...args, "--resume")),
    ]);
    expect(resumed).toMatchObject({ resumedFrom: null, sourceFlops: whole.sourceFlops });
    await expectSame("begun", "whole");
    await expectSame("old", "whole");
  });
});

describe("a run that has a checkpoint of its own", () => {
  it("goes on without its source, to the bit", async () => {
    const args = [...plain, ...long, early, "start=src"];
    await killed("gone", "gone/checkpoints/step-5", ...args);
    const resumed = await without(["src"], () => succeeds(run("gone", ...args, "--resume")));
    expect(resumed).toMatchObject({
      resumedFrom: expect.any(Number),
      sourceFlops: whole.sourceFlops,
      finalEvalLoss: whole.finalEvalLoss,
    });
    await expectSame("gone", "whole");
  });

  it("goes on without its nested definition's run, that one's source and the tokenizer in it", async () => {
    const args = [...nestedArgs, tokenizerAt("hf/tokenizer.json")];
    const [all] = await Promise.all([
      succeeds(run("runs/all", ...args, late)),
      // In another folder: what is beside it and finished would be taken.
      killed("killed/nested", "killed/nested/checkpoints/step-5", ...args, early),
    ]);
    const resumed = await without(["hf", "killed/nested/start"], () =>
      succeeds(run("killed/nested", ...args, "--resume")),
    );
    expect(resumed).toMatchObject({ resumedFrom: expect.any(Number), sourceFlops: all.sourceFlops });
    await expectSame("killed/nested", "runs/all");

    // A finished run of the same definition is no source where its own source was another one.
    await turnWeight(at("hf", "model.safetensors"));
    const { code, stderr } = await run("runs/again", ...args, "training.steps=2");
    await turnWeight(at("hf", "model.safetensors"));
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("first: tiny-start");
    expect(stderr).not.toContain("taken from");
  });
});

describe("espalier plan, like run", () => {
  it("refuses a source whose tokenizer is another one, and says where that was given", async () => {
    const json = JSON.parse(await readFile(at("hf", "tokenizer.json"), "utf8")) as {
      model: { vocab: Record<string, number> };
    };
    const [one, other] = Object.keys(json.model.vocab).slice(100, 102) as [string, string];
    const { [one]: first, [other]: second } = json.model.vocab;
    json.model.vocab = { ...json.model.vocab, [one]: second!, [other]: first! };
    await writeFile(at("swapped.json"), JSON.stringify(json));
    const definition = (await readFile(at("tiny.yaml"), "utf8")).replace(
      "{ kind: bpe, vocabSize: 300 }",
      "{ kind: file, path: hf/tokenizer.json }",
    );
    await writeFile(at("hf.yaml"), `${definition}start: hf\n`);
    await cp(at("hf"), at("bare"), { recursive: true });
    await rm(at("bare", "tokenizer.json"));

    const given = "data.tokenizer.path=swapped.json";
    const inside = `start={ model: ${small}, growth: { preset: scratch }, training: { steps: 3 }, start: hf }`;
    const two = ["growth.schedule=from-source", "growth.sampler=unique"];
    const [same, planned, trained, bare, around] = await Promise.all([
      command("plan", "hf.yaml", ...plain),
      command("plan", "hf.yaml", ...plain, given),
      command("run", "hf.yaml", ...plain, given, "--out", "refused"),
      command("plan", "tiny.yaml", ...plain, "start=bare"),
      command("run", "hf.yaml", ...two, given, inside, "--out", "refused"),
    ]);
    expect(same.code, same.stderr).toBe(0);
    for (const { code, stdout, stderr } of [planned, trained, around]) {
      expect(code, stderr).toBe(2);
      expect(stderr).toContain(`the run's ${at("swapped.json")} (`);
      expect(stdout).toBe("");
    }
    for (const { stderr } of [planned, trained])
      expect(stderr).toMatch(
        /file: command line \(data\.tokenizer\.path=swapped\.json\)\n +key: +data\.tokenizer\.path/,
      );
    expect(bare.code, bare.stderr).toBe(2);
    expect(bare.stderr).toContain(`the source ${at("bare")} has no tokenizer.json`);
    expect(bare.stderr).toMatch(/file: tiny\.yaml:5\n/);
    expect(existsSync(at("refused"))).toBe(false);
  });
});
