import { cp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { deserializeGrowthMap, hashGrowthMap, type LayerMap } from "@espalier/core";
import type { Lock } from "@espalier/experiments";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { espalier, makeFolder, readLines, tiny } from "./testing/espalier.js";
import { statusOf } from "./tracking/sync-runs.js";

interface Step {
  readonly step: number;
  readonly loss: number;
  readonly depth: number;
  readonly depths: readonly number[];
  readonly stage: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  readonly flops: number;
  readonly time: number;
}
interface Event {
  readonly event: string;
  readonly step: number;
}
interface GrowthEvent extends Event {
  readonly stage: number;
  readonly mapHash: string;
  readonly layerMap: LayerMap;
}
interface RunJson {
  readonly runId: string;
  readonly out: string;
  readonly steps: number;
  readonly finalEvalLoss: number;
  readonly checkpoint: string;
  readonly interrupted: boolean;
}

let folder: Awaited<ReturnType<typeof makeFolder>>;
let full: RunJson;
const at = (...path: string[]): string => join(folder.path, ...path);
const steps = (run: string): Promise<Step[]> => readLines<Step>(at(run, "metrics.jsonl"));
const events = (run: string): Promise<Event[]> => readLines<Event>(at(run, "events.jsonl"));
const model = (run: string): Promise<Buffer> =>
  readFile(at(run, "checkpoints", "step-12", "model.safetensors"));

/** What must be the same to the bit, whatever happened in between. */
function course(lines: readonly Step[]): unknown[] {
  return lines.map(({ step, loss, depth, depths, stage, learningRate, gradientNorm, flops }) => [
    step,
    loss,
    depth,
    depths,
    stage,
    learningRate,
    gradientNorm,
    flops,
  ]);
}

beforeAll(async () => {
  folder = await makeFolder();
  const { code, stdout, stderr } = await espalier(["run", "tiny.yaml", "--out", "full", "--json"], {
    cwd: folder.path,
  });
  expect(code, stderr).toBe(0);
  full = JSON.parse(stdout) as RunJson;
}, 120_000);
afterAll(() => folder.remove());

describe("espalier run", () => {
  it("leaves the folder that the contract describes", async () => {
    expect(full).toMatchObject({
      out: "full",
      steps: 12,
      checkpoint: "full/checkpoints/step-12",
      interrupted: false,
      runId: expect.stringMatching(/^[0-9a-f]{32}$/),
      backend: expect.any(String),
      finalTrainLoss: expect.any(Number),
      finalEvalLoss: expect.any(Number),
      flops: expect.any(Number),
      seconds: expect.any(Number),
      tokensPerSecond: expect.any(Number),
    });
    expect((await readdir(at("full"))).sort()).toEqual([
      "checkpoints",
      "definition.yaml",
      "events.jsonl",
      "growth-maps",
      "lock.json",
      "metrics.jsonl",
    ]);
    expect(await readFile(at("full", "definition.yaml"), "utf8")).toBe(tiny);
    expect((await readdir(at("full", "checkpoints"))).sort()).toEqual(["step-12", "step-8"]);
    expect((await readdir(at("full", "checkpoints", "step-12"))).sort()).toEqual([
      "config.json",
      "model.safetensors",
      "optimizer.safetensors",
      "state.json",
      "tokenizer.json",
    ]);
    const lines = await steps("full");
    expect(lines.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(lines.every(({ depths }) => depths.length === 2)).toBe(true);
    expect(lines.map(({ stage }) => stage)).toEqual([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    const isGrowth = (event: Event): event is GrowthEvent => event.event === "growth";
    const growths = (await events("full")).filter(isGrowth);
    expect(growths.map(({ step }) => step)).toEqual([3, 6]);
    const maps = at("full", "growth-maps");
    expect((await readdir(maps)).sort()).toEqual(["stage-1.json", "stage-2.json"]);
    for (const growth of growths) {
      const text = await readFile(join(maps, `stage-${growth.stage}.json`), "utf8");
      const map = deserializeGrowthMap(JSON.parse(text));
      expect(hashGrowthMap(map)).toBe(growth.mapHash);
      expect(map.layerMap).toEqual(growth.layerMap);
    }
  });

  it("locks everything that was resolved", async () => {
    const lock = JSON.parse(await readFile(at("full", "lock.json"), "utf8")) as Lock;
    expect(lock).toMatchObject({
      name: "tiny",
      seed: 42,
      runId: full.runId,
      definition: {
        model: { intermediateSize: 64, maxPositions: 16, layerNormEpsilon: 1e-5 },
        objective: { use: "causal-lm" },
        growth: {
          schedule: { use: "stages", depths: [1, 2, 4], at: [0, 0.25, 0.5] },
          sampler: { use: "lvps", end: 0.6 },
          expander: { use: "interpolation", mode: "nearest", moments: "carry" },
          sharing: { use: "interpolation" },
        },
        training: {
          optimizer: { use: "adamw", learningRate: 3e-3, beta2: 0.999 },
          schedule: { use: "cosine" },
        },
      },
      backend: { device: expect.any(String), threads: 1, version: expect.any(String) },
      machine: { node: process.version, cpu: expect.any(String) },
      code: { version: expect.stringMatching(/^\d+\.\d+\.\d+$/) },
      data: { vocabSize: 300, fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
    expect(lock.plugins.map(({ name }) => name)).toContain("@espalier/plugin-apollo-lvps");
  });

  it("is the same to the bit when it is run again", async () => {
    const again = await espalier(["run", "tiny.yaml", "--out", "again"], { cwd: folder.path });
    expect(again.code, again.stderr).toBe(0);
    expect(course(await steps("again"))).toEqual(course(await steps("full")));
    expect((await model("again")).equals(await model("full"))).toBe(true);
  });

  it("writes plain lines where there is no terminal", async () => {
    const { code, stdout, stderr } = await espalier(["run", "tiny.yaml", "training.steps=4", "seed=7"], {
      cwd: folder.path,
    });
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/^step 4\/4 · stage 3\/3 · depth 4 · loss \d\.\d{4} · .* tokens\/s · .*FLOPs/m);
    expect(stderr).toMatch(/^step 2: grew from 2 to 4 layers by interpolation/m);
    expect(stderr).toMatch(/^step 4: evaluation loss \d\.\d{4} at 4 layers/m);
    expect(stderr).not.toContain("\u001b");
    expect(stdout).toContain("runs/tiny-s7");
    // Another seed is another run.
    expect((await steps("runs/tiny-s7"))[0]!.loss).not.toBe((await steps("full"))[0]!.loss);
  });

  it("continues to the bit after SIGINT", async () => {
    let sent = false;
    const first = await espalier(["run", "tiny.yaml", "--out", "interrupted", "--json"], {
      cwd: folder.path,
      onStderr(text, child) {
        if (!sent && /step 1\//.test(text)) sent = child.kill("SIGINT");
      },
    });
    expect(first.code, first.stderr).toBe(1);
    const partial = JSON.parse(first.stdout) as RunJson;
    expect(partial.interrupted).toBe(true);
    expect(partial.steps).toBeGreaterThanOrEqual(1);
    expect(partial.steps).toBeLessThan(12);
    expect(partial.checkpoint).toBe(`interrupted/checkpoints/step-${partial.steps}`);
    const before = await readFile(at("interrupted", "metrics.jsonl"), "utf8");

    const second = await espalier(["run", "tiny.yaml", "--out", "interrupted", "--resume", "--json"], {
      cwd: folder.path,
    });
    expect(second.code, second.stderr).toBe(0);
    expect(JSON.parse(second.stdout)).toMatchObject({
      runId: partial.runId,
      steps: 12,
      resumedFrom: partial.steps,
      finalEvalLoss: full.finalEvalLoss,
    });
    expect((await readFile(at("interrupted", "metrics.jsonl"), "utf8")).startsWith(before)).toBe(true);
    expect(course(await steps("interrupted"))).toEqual(course(await steps("full")));
    expect((await model("interrupted")).equals(await model("full"))).toBe(true);
  });

  it("leaves at once at a second signal", async () => {
    const left = await espalier(["run", "tiny.yaml", "training.steps=4000", "--out", "left"], {
      cwd: folder.path,
      onStderr(text, child) {
        // Two different signals: the same one twice may arrive once.
        if (text.includes("step 1/")) {
          child.kill("SIGINT");
          child.kill("SIGTERM");
        }
      },
    });
    expect(left.code, left.stderr).toBe(1);
    expect(left.stderr).toContain("once more leaves at once");
    expect(left.stderr).toContain("left at once");
    expect((await events("left")).map(({ event }) => event)).not.toContain("interrupted");
  });

  it("continues to the bit after SIGKILL, also right at a growth", async () => {
    const killed = await espalier(["run", "tiny.yaml", "checkpoints.every=3", "--out", "killed"], {
      cwd: folder.path,
      onStderr(text, child) {
        if (text.includes("grew from 1 to 2")) child.kill("SIGKILL");
      },
    });
    expect(killed.signal).toBe("SIGKILL");
    // checkpoints.every is among the keys that may change
    const { code, stderr } = await espalier(["run", "tiny.yaml", "--out", "killed", "--resume"], {
      cwd: folder.path,
    });
    expect(code, stderr).toBe(0);
    expect(course(await steps("killed"))).toEqual(course(await steps("full")));
    expect((await model("killed")).equals(await model("full"))).toBe(true);
  });

  it("leaves a finished run as it is when it is resumed, and says the same of it", async () => {
    await cp(at("full"), at("finished"), { recursive: true });
    // As earlier versions left it.
    const before = `${await readFile(at("full", "events.jsonl"), "utf8")}{"event":"resume","step":12,"time":4}\n`;
    await writeFile(at("finished", "events.jsonl"), before);
    const { code, stdout, stderr } = await espalier(
      ["run", "tiny.yaml", "--out", "finished", "--resume", "--json"],
      { cwd: folder.path },
    );
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("the run is finished: nothing is left to train after step 12");
    expect(stderr).not.toContain("resumed");
    expect(JSON.parse(stdout)).toEqual({
      ...full,
      out: "finished",
      checkpoint: "finished/checkpoints/step-12",
      resumedFrom: 12,
    });
    expect(await readFile(at("finished", "events.jsonl"), "utf8")).toBe(before);
    expect(await statusOf(at("finished"))).toBe("FINISHED");
  });

  it("goes on before a damaged checkpoint, says so, and ends the same", async () => {
    await cp(at("full"), at("damaged"), { recursive: true });
    await truncate(at("damaged", "checkpoints", "step-12", "model.safetensors"), 900);
    const { code, stderr } = await espalier(["run", "tiny.yaml", "--out", "damaged", "--resume"], {
      cwd: folder.path,
    });
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("step 12 is damaged or incomplete: the run goes on from step 8");
    expect(course(await steps("damaged"))).toEqual(course(await steps("full")));
    expect((await model("damaged")).equals(await model("full"))).toBe(true);
    expect(await statusOf(at("damaged"))).toBe("FINISHED");
  });

  it("does not resume with another definition, and says which keys differ", async () => {
    const before = await readFile(at("full", "lock.json"), "utf8");
    const { code, stderr } = await espalier(
      ["run", "tiny.yaml", "--out", "full", "--resume", "training.batchSize=4", "growth.sampler=uniform"],
      { cwd: folder.path },
    );
    expect(code).toBe(2);
    expect(stderr).toContain("training.batchSize: 2 in the run, 4 now");
    expect(stderr).toContain('growth.sampler.use: "lvps" in the run, "uniform" now');
    expect(stderr).toContain("growth.sampler.end: 0.6 in the run, nothing now");
    expect(stderr).not.toContain("training.steps:");
    expect(stderr).toContain("full/lock.json");
    expect(await readFile(at("full", "lock.json"), "utf8")).toBe(before);
  });

  it("does not resume on other text", async () => {
    await cp(at("full"), at("moved"), { recursive: true });
    const text = await readFile(at("corpus.txt"), "utf8");
    try {
      await writeFile(at("corpus.txt"), `${text}\n\nOne more document of the people.`);
      const { code, stderr } = await espalier(["run", "tiny.yaml", "--out", "moved", "--resume"], {
        cwd: folder.path,
      });
      expect(code, stderr).toBe(1);
      expect(stderr).toContain("the corpus or its tokenizer has changed");
    } finally {
      await writeFile(at("corpus.txt"), text);
    }
  });

  it("starts from a checkpoint, and from a nested definition that it trains first", async () => {
    const later = ["growth.schedule=scratch", "growth.sampler=unique", "training.steps=2"];
    const { code, stderr } = await espalier(["run", "tiny.yaml", ...later, "start=full", "--out", "later"], {
      cwd: folder.path,
    });
    expect(code, stderr).toBe(0);
    const [first] = await steps("later");
    // It goes on from what was learnt, and does not begin anew.
    expect(first!.loss).toBeLessThan((await steps("full"))[0]!.loss - 0.1);

    const small = "{ family: gpt2, depth: 2, hiddenSize: 16, attentionHeads: 2 }";
    const nested = `start={ model: ${small}, training: { steps: 3, batchSize: 2 } }`;
    // The stage of one layer is passed over.
    const grown = await espalier(["run", "tiny.yaml", "growth.sampler=unique", nested, "--out", "nested"], {
      cwd: folder.path,
    });
    expect(grown.code, grown.stderr).toBe(0);
    expect((await steps("nested")).map(({ stage, depth }) => [stage, depth])).toEqual([
      ...Array(6).fill([0, 2]),
      ...Array(6).fill([1, 4]),
    ]);
    const plan = await espalier(["plan", "tiny.yaml", "growth.sampler=unique", nested, "--json"], {
      cwd: folder.path,
    });
    expect(plan.code, plan.stderr).toBe(0);
    expect(JSON.parse(plan.stdout)).toMatchObject({
      stages: [
        { index: 0, depth: 2, firstStep: 0, steps: 6 },
        { index: 1, depth: 4, firstStep: 6, steps: 6 },
      ],
      // To the FLOP, for a sampler that draws nothing.
      totalFlops: (await steps("nested")).at(-1)!.flops,
    });
    expect((await stat(at("nested", "start", "checkpoints", "step-3"))).isDirectory()).toBe(true);
    expect(await steps("nested")).toHaveLength(12);
  });

  it("grows a smaller source in width and depth before the first step, and trains a nested one once", async () => {
    const model = "{ family: gpt2, depth: 2, hiddenSize: 8, attentionHeads: 1, dropout: 0.1 }";
    const nested = `start={ model: ${model}, growth: { preset: scratch }, training: { steps: 3, batchSize: 2 } }`;
    const preset = ["growth.sampler={ use: two-stage, subModelLayers: 2 }", "growth.schedule=from-source"];
    const outcomes = [];
    for (const [out, expander] of [
      ["aki", "aki"],
      ["fpi", "fpi"],
    ] as const) {
      const args = [
        "run",
        "tiny.yaml",
        nested,
        ...preset,
        `growth.expander=${expander}`,
        "growth.sharing=bottom",
      ];
      const { code, stdout, stderr } = await espalier([...args, "--json", "--out", join("sources", out)], {
        cwd: folder.path,
      });
      expect(code, stderr).toBe(0);
      expect(stderr).toContain(out === "aki" ? "first: tiny-start" : "taken from");
      outcomes.push(JSON.parse(stdout) as { sourceFlops: number; flops: number });
    }
    await expect(stat(at(join("sources", "fpi", "start")))).rejects.toThrow();
    expect(outcomes[0]!.sourceFlops).toBeGreaterThan(0);
    expect(outcomes[1]!.sourceFlops).toBe(outcomes[0]!.sourceFlops);
    const events = await readLines<{ event: string; step: number; stage: number; to: object }>(
      at(join("sources", "fpi", "events.jsonl")),
    );
    expect(events.filter(({ event }) => event === "growth")).toMatchObject([
      { step: 0, stage: 0, from: { depth: 2, hiddenSize: 8 }, to: { depth: 4, hiddenSize: 16 } },
    ]);
    const { stdout } = await espalier(["compare", "sources/aki", "sources/fpi", "--json"], {
      cwd: folder.path,
    });
    const { runs } = JSON.parse(stdout) as { runs: { sourceFlops: number; flopsSavingWithSource: number }[] };
    expect(runs[0]).toMatchObject({ sourceFlops: outcomes[0]!.sourceFlops, flopsSavingWithSource: 0 });
  });

  it("refuses a checkpoint that training cannot start from, saying what differs", async () => {
    for (const [change, reason] of [
      ["model.depth=3", "depth 4, which cannot shrink to 3"],
      ["model.hiddenSize=8", "hiddenSize 16, which cannot shrink to 8"],
      ["data.tokenizer.vocabSize=310", "vocabSize 300 instead of 310"],
      ["model.hiddenSize=32", "heads of 8 channels"],
    ] as const) {
      const { code, stderr } = await espalier(
        [
          "run",
          "tiny.yaml",
          "growth.schedule=scratch",
          "growth.expander=fpi",
          change,
          "start=full",
          "--out",
          "other",
        ],
        { cwd: folder.path },
      );
      expect(code).toBe(2);
      expect(stderr).toContain(reason);
    }
    await expect(stat(at("other"))).rejects.toThrow();
  });

  it("goes on where the tracking server does not answer, and reaches one that does", async () => {
    const args = ["run", "tiny.yaml", "training.steps=4"];
    const dead = await espalier([...args, "--out", "dead"], {
      cwd: folder.path,
      env: { MLFLOW_TRACKING_URI: "http://127.0.0.1:9" },
    });
    expect(dead.code, dead.stderr).toBe(0);
    expect(dead.stderr).toContain("nothing is listening there");

    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url ?? "");
      response.writeHead(500, { "content-type": "application/json" }).end("{}");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      const failing = await espalier([...args, "--out", "failing"], {
        cwd: folder.path,
        env: { MLFLOW_TRACKING_URI: `http://127.0.0.1:${port}` },
      });
      expect(failing.code, failing.stderr).toBe(0);
      expect(asked.some((url) => url.includes("/api/2.0/mlflow/"))).toBe(true);
    } finally {
      server.close();
    }
  });

  it("can be compared, and its folder removed again", async () => {
    const { code, stdout, stderr } = await espalier(
      ["compare", "full", "again", "--json", "--plot", "loss.svg"],
      {
        cwd: folder.path,
      },
    );
    expect(code, stderr).toBe(0);
    const comparison = JSON.parse(stdout) as { baseline: string; runs: object[] };
    expect(comparison.baseline).toBe("tiny");
    expect(comparison.runs).toHaveLength(2);
    expect(comparison.runs[1]).toMatchObject({
      name: "tiny",
      seed: 42,
      finalEvalLoss: full.finalEvalLoss,
      flopsSaving: 0,
      secondsSaving: expect.any(Number),
      flopsToBaseline: expect.any(Number),
    });
    expect(await readFile(at("loss.svg"), "utf8")).toMatch(/^<svg[\s\S]*<\/svg>/);
    await rm(at("again"), { recursive: true });
  });
});
