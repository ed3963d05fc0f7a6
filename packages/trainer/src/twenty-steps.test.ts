import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { expect, it } from "vitest";
import { fixtureFile, readFixture, trainTwentySteps } from "./twenty-steps.test-support.js";

it("the reference losses are what TensorFlow.js's own engine computes", { timeout: 300_000 }, async () => {
  await tf.setBackend("cpu");
  const losses = await trainTwentySteps();
  if (process.env.ESPALIER_WRITE_FIXTURES) {
    await mkdir(dirname(fixtureFile), { recursive: true });
    await writeFile(fixtureFile, `${JSON.stringify(losses, null, 2)}\n`);
  }
  const expected = await readFixture();
  for (const family of ["gpt2", "bert"] as const) {
    expect(losses[family]).toHaveLength(20);
    for (const [step, loss] of losses[family].entries())
      expect(Math.abs(loss - expected[family][step]!), `${family}, step ${step + 1}`).toBeLessThan(1e-6);
  }
});
