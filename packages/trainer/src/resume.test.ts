import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, readFile, symlink } from "node:fs/promises";
import { isBuiltin } from "node:module";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { listSteps, stepFolder } from "@espalier/checkpoints";
import type { SequenceData } from "@espalier/core";
import { readEvents, readMetrics, type StepMetrics } from "@espalier/tracking";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadEngine } from "./engine.test-support.js";
import { realText, runTiny, type TinyRun, temporaryFolders } from "./tiny-run.test-support.js";

const folders = temporaryFolders();
let text: SequenceData;
beforeAll(async () => {
  await loadEngine();
  text = await realText();
});
afterAll(() => folders.clean());

/** What training computed, without the times that it took. */
function computed(line: StepMetrics): object {
  const { time: _, seconds: __, tokensPerSecond: ___, ...rest } = line;
  return rest;
}

async function weightsFile(folder: string, step: number, name: string): Promise<Buffer> {
  return readFile(join(stepFolder(folder, step), name));
}

describe("a resumed run", () => {
  // 12 steps: growth after 3 and after 6, so resuming after 3 and 6 is right at a growth, else inside a stage.
  const run: TinyRun = {
    steps: 12,
    evaluation: { every: 5, batches: 1 },
    checkpoints: { every: 1, keep: 99 },
  };
  let reference: string;
  beforeAll(async () => {
    reference = await folders.make();
    await runTiny(reference, text, run);
  });

  it.each([1, 3, 5, 6, 8, 11])(
    "from step %i does what an uninterrupted one does, to the last bit",
    async (step) => {
      const folder = await folders.make();
      await mkdir(join(folder, "checkpoints"));
      await cp(stepFolder(reference, step), stepFolder(folder, step), { recursive: true });
      const result = await runTiny(folder, text, { ...run, resume: true });
      expect(result).toMatchObject({ resumedFrom: step, steps: 12 });
      const expected = (await readMetrics(reference)).filter((line) => line.step > step);
      expect((await readMetrics(folder)).map(computed)).toEqual(expected.map(computed));
      for (const name of ["model.safetensors", "optimizer.safetensors"])
        expect(await weightsFile(folder, 12, name)).toEqual(await weightsFile(reference, 12, name));
      const events = await readEvents(folder);
      expect(events[0]).toMatchObject({ event: "resume", step });
      const grown = (await readEvents(reference)).filter((event) => event.event === "growth");
      expect(events.filter((event) => event.event === "growth")).toEqual(
        grown
          .filter((event) => event.step >= step)
          .map((event) => ({ ...event, time: expect.any(Number), seconds: expect.any(Number) })),
      );
      expect(result.growths.map((growth) => growth.step)).toEqual([3, 6]);
    },
  );

  it("that was complete does nothing and says what it said", async () => {
    const before = await readFile(join(reference, "metrics.jsonl"), "utf8");
    const result = await runTiny(reference, text, { ...run, resume: true });
    const lines = await readMetrics(reference);
    expect(result).toMatchObject({
      resumedFrom: 12,
      steps: 12,
      finalTrainLoss: lines.at(-1)!.loss,
      finalEvalLoss: expect.any(Number),
      flops: lines.at(-1)!.flops,
    });
    expect(await readFile(join(reference, "metrics.jsonl"), "utf8")).toBe(before);
  });

  it("passes over a checkpoint that is not complete", async () => {
    const folder = await folders.make();
    await mkdir(join(folder, "checkpoints"));
    await cp(stepFolder(reference, 2), stepFolder(folder, 2), { recursive: true });
    await cp(
      join(stepFolder(reference, 7), "model.safetensors"),
      join(stepFolder(folder, 7), "model.safetensors"),
    );
    const result = await runTiny(folder, text, { ...run, steps: 12, resume: true });
    expect(result.resumedFrom).toBe(2);
    expect((await readMetrics(folder)).map(computed)).toEqual(
      (await readMetrics(reference)).filter((line) => line.step > 2).map(computed),
    );
  });

  it("begins at the beginning where nothing was saved", async () => {
    const result = await runTiny(await folders.make(), text, { steps: 4, resume: true });
    expect(result).toMatchObject({ resumedFrom: null, steps: 4 });
  });

  it("of another definition or seed is refused, and so is an old folder without --resume", async () => {
    await expect(
      runTiny(reference, text, { ...run, resume: true, definitionHash: "other" }),
    ).rejects.toMatchObject({ code: "ESPALIER_RESUME_CHANGED", exitCode: 2 });
    await expect(runTiny(reference, text, { ...run, resume: true, seed: 1 })).rejects.toThrow(
      "another definition (seed 42, now 1)",
    );
    await expect(runTiny(reference, text, run)).rejects.toMatchObject({
      code: "ESPALIER_RUN_EXISTS",
      exitCode: 2,
    });
  });
});

it("a run that is interrupted writes a checkpoint, leaves in order, and goes on as if nothing had been", async () => {
  const whole = await folders.make();
  await runTiny(whole, text, { steps: 8 });
  const folder = await folders.make();
  const interruption = new AbortController();
  const first = await runTiny(folder, text, {
    steps: 8,
    signal: interruption.signal,
    onProgress: ({ step }) => step === 5 && interruption.abort(),
  });
  expect(first).toMatchObject({ interrupted: true, steps: 5, finalEvalLoss: null });
  expect(await listSteps(folder)).toEqual([5]);
  expect((await readEvents(folder)).at(-1)).toMatchObject({ event: "interrupted", step: 5 });
  const second = await runTiny(folder, text, { steps: 8, resume: true });
  expect(second).toMatchObject({ interrupted: false, steps: 8, resumedFrom: 5 });
  expect((await readMetrics(folder)).map(computed)).toEqual((await readMetrics(whole)).map(computed));
});

describe("a run that is killed", () => {
  let script: string;
  beforeAll(async () => {
    const folder = await folders.make();
    await symlink(resolve(import.meta.dirname, "../../../node_modules"), join(folder, "node_modules"));
    script = join(folder, "kill-run.mjs");
    await build({
      entryPoints: [join(import.meta.dirname, "kill-run.test-support.ts")],
      bundle: true,
      platform: "node",
      format: "esm",
      conditions: ["espalier-source"],
      plugins: [
        {
          name: "bundle only what is ours",
          setup: ({ onResolve, resolve: find }) =>
            onResolve({ filter: /^[^./]/ }, async ({ path, kind, resolveDir, importer, pluginData }) => {
              if (kind === "entry-point" || path.startsWith("@espalier/") || pluginData === "find")
                return undefined;
              if (isBuiltin(path)) return { path, external: true };
              // from where it is imported: a package may have a version of its own
              const found = await find(path, { kind, resolveDir, importer, pluginData: "find" });
              const isFound = found.errors.length === 0;
              return { path: isFound ? pathToFileURL(found.path).href : path, external: true };
            }),
        },
      ],
      outfile: script,
    });
  });

  function start(folder: string): ChildProcess {
    return spawn(process.execPath, [script, folder, "18"], { stdio: ["ignore", "ignore", "pipe"] });
  }

  async function runToTheEnd(folder: string): Promise<void> {
    const child = start(folder);
    let complaints = "";
    child.stderr!.on("data", (text) => {
      complaints += text;
    });
    const [code] = await once(child, "close");
    expect(code, complaints).toBe(0);
  }

  async function linesOf(folder: string): Promise<number> {
    const journal = await readFile(join(folder, "metrics.jsonl"), "utf8").catch(() => "");
    return journal.split("\n").length - 1;
  }

  it("between checkpoints, twice, ends with the losses of one that was not", async () => {
    const whole = await folders.make();
    await runToTheEnd(whole);

    const folder = await folders.make();
    for (const atLeast of [7, 13]) {
      const child = start(folder);
      child.stderr!.resume();
      const gone = once(child, "exit");
      while ((await linesOf(folder)) < atLeast && child.exitCode === null) await pause(5);
      child.kill("SIGKILL");
      const [, signal] = await gone;
      expect(signal).toBe("SIGKILL");
    }
    await runToTheEnd(folder);

    const lines = await readMetrics(folder);
    expect(await linesOf(folder)).toBe(18);
    expect(lines.map(computed)).toEqual((await readMetrics(whole)).map(computed));
    const events = await readEvents(folder);
    const resumed = events.filter((event) => event.event === "resume").map((event) => event.step);
    expect(resumed).toHaveLength(2);
    for (const step of resumed) expect(step % 5).toBe(0);
    expect(events.filter((event) => event.event === "growth").map((event) => event.step)).toEqual([4, 9]);
    expect(await weightsFile(folder, 18, "optimizer.safetensors")).toEqual(
      await weightsFile(whole, 18, "optimizer.safetensors"),
    );
  });
});
