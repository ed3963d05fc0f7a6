import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { listSteps, openCheckpoint } from "@espalier/checkpoints";
import type { ModelFamily, SequenceData } from "@espalier/core";
import { causalLm, maskedLm, maskedLmDefaults } from "@espalier/data";
import { gpt2 } from "@espalier/models";
import { readEvents, readMetrics } from "@espalier/tracking";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadEngine } from "./engine.test-support.js";
import { isOutOfMemory, outOfMemory } from "./out-of-memory.js";
import {
  realText,
  runTiny,
  sequencesOf,
  type TinyRun,
  temporaryFolders,
  tinyGpt2,
} from "./tiny-run.test-support.js";

const folders = temporaryFolders();
let text: SequenceData;
beforeAll(async () => {
  await loadEngine();
  text = await realText();
});
afterAll(() => folders.clean());

describe("a run that diverges", () => {
  /** The peak until the given step, then a rate that no model survives. */
  const explodesAt = (step: number) => ({
    learningRate: { factor: ({ position }: { position: number }) => (position < step ? 1 : 1e30) },
  });

  it("stops with what happened, and the last good checkpoint is intact", async () => {
    const folder = await folders.make();
    const before = tf.memory().numTensors;
    const run = { steps: 30, strategies: explodesAt(15), checkpoints: { every: 5, keep: 9 } };
    const failure = runTiny(folder, text, run);
    await expect(failure).rejects.toMatchObject({
      code: "ESPALIER_DIVERGED",
      exitCode: 1,
      message: expect.stringMatching(
        /^training diverged: the (evaluation )?loss is (NaN|Infinity) at step 15 \(learning rate 1e\+28\); the last good checkpoint is .*step-10$/,
      ),
      hint: expect.stringContaining("lower the learning rate"),
    });
    // The update of step 15 broke the model: the checkpoint that was due then is not written.
    expect(await listSteps(folder)).toEqual([5, 10]);
    const checkpoint = await openCheckpoint(folder);
    for (const name of checkpoint.weights.tensors.keys())
      expect((await checkpoint.weights.readFloats(name)).every(Number.isFinite)).toBe(true);
    await checkpoint.close();
    expect((await readEvents(folder)).at(-1)).toMatchObject({ event: "diverged", step: 15 });
    expect(tf.memory().numTensors).toBe(before);
  });

  it("is noticed between checkpoints as well, at the first bad step", async () => {
    const folder = await folders.make();
    const failure = runTiny(folder, text, { steps: 30, strategies: explodesAt(3) });
    await expect(failure).rejects.toThrow(/at step 4 .*there is no checkpoint yet/);
    const lines = await readMetrics(folder);
    expect(lines.map((line) => line.step)).toEqual([1, 2, 3]);
    for (const { loss } of lines) expect(Number.isFinite(loss)).toBe(true);
  });
});

describe("a run whose memory runs out", () => {
  /** GPT-2 that asks for more than any machine has, in a forward pass of its own choice. */
  const greedy = (isTooMuch: () => boolean): ModelFamily => ({
    ...gpt2,
    forward(...given) {
      if (isTooMuch()) tf.fill([1e9, 1e6], 1);
      return gpt2.forward(...given);
    },
  });

  it("says which batch to try, the checkpoint is intact, and the process trains on with less", async () => {
    const folder = await folders.make();
    let passes = 0;
    const run = {
      family: greedy(() => passes++ >= 12),
      steps: 30,
      batchSize: 6,
      gradientAccumulation: 1,
      checkpoints: { every: 5, keep: 9 },
    };
    await expect(runTiny(folder, text, run)).rejects.toMatchObject({
      code: "ESPALIER_OUT_OF_MEMORY",
      exitCode: 1,
      key: "training.batchSize",
      message: expect.stringMatching(
        /^memory ran out in step 1\d: 6 sequences of 24 tokens through \d layers \(.*llocat.*\); the last checkpoint is .*step-\d+$/,
      ),
      hint: "try training.batchSize=4 with training.gradientAccumulation=2",
    });
    expect(await listSteps(folder)).toContain(5);
    const checkpoint = await openCheckpoint(folder);
    for (const name of checkpoint.weights.tensors.keys())
      expect((await checkpoint.weights.readFloats(name)).every(Number.isFinite)).toBe(true);
    await checkpoint.close();
    const after = await runTiny(await folders.make(), text, { steps: 8, batchSize: 4 });
    expect(after.steps).toBe(8);
  });

  it.each([
    [256, 1, "try training.batchSize=128 with training.gradientAccumulation=2"],
    [33, 2, "try training.batchSize=32 with training.gradientAccumulation=3"],
    [1, 8, "one sequence does not fit: shorten data.sequenceLength"],
  ])("at a batch of %i, accumulated %i times, advises: %s", (batchSize, gradientAccumulation, advice) => {
    const size = {
      batchSize,
      gradientAccumulation,
      sequenceLength: 8,
      executedLayers: 2,
      step: 1,
      checkpoint: null,
    };
    const error = outOfMemory(new Error("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore"), size);
    expect(error.hint).toContain(advice);
    expect(error.message).toContain(
      "(CUDA out of memory. Tried to allocate 20.00 GiB.); there is no checkpoint yet",
    );
  });

  it("is told from other errors", () => {
    expect(isOutOfMemory(Object.assign(new Error("x"), { code: "ERR_LIBTORCH_MEMORY" }))).toBe(true);
    expect(isOutOfMemory(new Error("OOM when allocating tensor with shape[1,2]"))).toBe(true);
    expect(isOutOfMemory(new Error("aten::mm: shapes cannot be multiplied"))).toBe(false);
    expect(isOutOfMemory("out of memory")).toBe(false);
  });
});

describe("a setup that cannot be trained is refused, with the key", () => {
  const tokenizer = { vocabSize: 128, maskToken: 1, padToken: null, endOfText: null, specialTokens: [1] };
  it.each<[string, TinyRun, string, string]>([
    ["an empty batch", { batchSize: 0 }, "training.batchSize", "at least 1, but is 0"],
    ["half a micro-step", { gradientAccumulation: 0.5 }, "training.gradientAccumulation", "but is 0.5"],
    ["no clipping at all by 0", { gradientClipNorm: 0 }, "training.gradientClipNorm", "must be positive"],
    ["no steps", { steps: 0 }, "training.steps", "at least 1, but is 0"],
    [
      "endless FLOPs",
      { budget: { unit: "flops", amount: Number.POSITIVE_INFINITY, steps: null } },
      "training.flops",
      "must be a positive number",
    ],
    ["no evaluation batch", { evaluation: { every: 1, batches: 0 } }, "evaluation.batches", "at least 1"],
    ["nothing kept", { checkpoints: { every: 1, keep: 0 } }, "checkpoints.keep", "at least 1"],
    [
      "masked words for a causal model",
      { strategies: { objective: maskedLm(maskedLmDefaults, tokenizer) } },
      "objective",
      "gpt2 is causal",
    ],
    [
      "too few positions",
      { config: { ...tinyGpt2, maxPositions: 8 } },
      "data.sequenceLength",
      "only 8 positions",
    ],
  ])("%s", async (_, changes, key, message) => {
    const folder = await folders.make();
    await expect(runTiny(folder, text, changes)).rejects.toMatchObject({
      exitCode: 2,
      key,
      message: expect.stringContaining(message),
    });
    expect(await listSteps(folder)).toEqual([]);
  });

  it("an objective that looks at both sides of a causal model, and text too short for one sequence", async () => {
    const { bert } = await import("@espalier/models");
    const causal = { family: bert, strategies: { objective: causalLm() } };
    await expect(runTiny(await folders.make(), text, causal)).rejects.toThrow(
      "bert sees what it is to predict",
    );
    await expect(runTiny(await folders.make(), sequencesOf(new Int32Array(20), 24))).rejects.toThrow(
      "data has no train sequence of 24 tokens",
    );
    await expect(runTiny(await folders.make(), sequencesOf(new Int32Array(50), 24))).rejects.toThrow(
      "data has no validation sequence of 24 tokens",
    );
  });

  it("a folder that checkpoints cannot be written to", async () => {
    const folder = await folders.make();
    await writeFile(join(folder, "checkpoints"), "");
    await expect(runTiny(folder, text, { steps: 4 })).rejects.toMatchObject({
      code: "ESPALIER_NOT_A_FOLDER",
    });
  });
});
