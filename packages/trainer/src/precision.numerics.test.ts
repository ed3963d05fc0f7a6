import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { openCheckpoint, stepFolder } from "@espalier/checkpoints";
import type { Precision, SequenceData } from "@espalier/core";
import { bert, gpt2 } from "@espalier/models";
import { supportsPrecision } from "@espalier/ops";
import { readMetrics } from "@espalier/tracking";
import * as tf from "@tensorflow/tfjs";
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

async function losses(folder: string): Promise<number[]> {
  return (await readMetrics(folder)).map((line) => line.loss);
}

async function train(run: TinyRun): Promise<number[]> {
  const folder = await folders.make();
  await runTiny(folder, text, run);
  return losses(folder);
}

/** The engines differ: those without bf16 must say so, those with it must train in it. */
const hasBf16 = () => supportsPrecision("bf16");

describe("training in bf16", () => {
  it.each([gpt2, bert])("$name: twenty steps have the losses of fp32, to 1 %", async (family) => {
    if (!hasBf16()) return;
    const run = (precision: Precision) => train({ family, steps: 20, precision });
    const [half, full] = [await run("bf16"), await run("fp32")];
    expect(half).toHaveLength(20);
    for (const [step, loss] of half.entries())
      expect(Math.abs(loss / full[step]! - 1), `step ${step + 1}`).toBeLessThan(0.01);
  });

  it("resumes to the last bit, from float32 checkpoints", async () => {
    if (!hasBf16()) return;
    const run: TinyRun = { steps: 12, precision: "bf16", checkpoints: { every: 1, keep: 99 } };
    const whole = await folders.make();
    await runTiny(whole, text, run);
    for (const step of [3, 8]) {
      const folder = await folders.make();
      await mkdir(join(folder, "checkpoints"));
      await cp(stepFolder(whole, step), stepFolder(folder, step), { recursive: true });
      await runTiny(folder, text, { ...run, resume: true });
      expect(await losses(folder)).toEqual((await losses(whole)).slice(step));
    }
    const checkpoint = await openCheckpoint(stepFolder(whole, 12));
    try {
      expect(checkpoint.state).toMatchObject({ precision: "bf16" });
      const types = [...checkpoint.weights.tensors.values()].map((tensor) => tensor.type);
      expect(new Set(types)).toEqual(new Set(["F32"]));
    } finally {
      await checkpoint.close();
    }
    await expect(runTiny(whole, text, { ...run, precision: "fp32", resume: true })).rejects.toMatchObject({
      code: "ESPALIER_RESUME_CHANGED",
      message: expect.stringContaining("precision bf16, now fp32"),
      exitCode: 2,
    });
  });

  it("leaves nothing behind", async () => {
    if (!hasBf16()) return;
    const handles = () => {
      const { numTensors, ...engine } = tf.memory();
      return { numTensors, native: (engine as { nativeHandles?: number }).nativeHandles };
    };
    const before = handles();
    const within: object[] = [];
    await runTiny(await folders.make(), text, {
      steps: 60,
      precision: "bf16",
      evaluation: { every: 1, batches: 1 },
      onProgress: ({ step }) => (step === 36 || step === 52) && within.push(handles()),
    });
    expect(within).toHaveLength(2);
    expect(within[1]).toEqual(within[0]);
    expect(handles()).toEqual(before);
  });

  it("is refused before the first step where the engine has none", async () => {
    if (hasBf16()) return;
    await expect(train({ precision: "bf16" })).rejects.toMatchObject({
      code: "ESPALIER_PRECISION_UNSUPPORTED",
      key: "training.precision",
      hint: expect.stringContaining("libtorch"),
      exitCode: 2,
    });
  });
});
