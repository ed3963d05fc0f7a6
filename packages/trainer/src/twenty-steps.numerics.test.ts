import { expect, it } from "vitest";
import { loadEngine } from "./engine.test-support.js";
import { readFixture, trainTwentySteps } from "./twenty-steps.test-support.js";

it("twenty steps of a growing run have the reference's losses, to 1e-4", async () => {
  await loadEngine();
  const [losses, expected] = [await trainTwentySteps(), await readFixture()];
  for (const family of ["gpt2", "bert"] as const) {
    expect(losses[family]).toHaveLength(20);
    for (const [step, loss] of losses[family].entries())
      expect(Math.abs(loss - expected[family][step]!), `${family}, step ${step + 1}`).toBeLessThan(1e-4);
  }
});
