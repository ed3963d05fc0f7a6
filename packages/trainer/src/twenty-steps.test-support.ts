import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { bert, gpt2 } from "@espalier/models";
import { readMetrics } from "@espalier/tracking";
import { adamWOptimizer } from "./adamw-optimizer.js";
import { realText, runTiny, temporaryFolders, tinyBert, tinyGpt2 } from "./tiny-run.test-support.js";

/** Losses of the twenty steps, by model family. */
export interface TwentySteps {
  readonly gpt2: readonly number[];
  readonly bert: readonly number[];
}

/**
 * Losses that TensorFlow.js's own CPU engine computed with the composed operations. Written anew by
 * `ESPALIER_WRITE_FIXTURES=1 npx vitest run --project unit packages/trainer/src/twenty-steps.test.ts`.
 */
export const fixtureFile = join(import.meta.dirname, "../fixtures/twenty-steps.json");

/** The committed losses. */
export async function readFixture(): Promise<TwentySteps> {
  return JSON.parse(await readFile(fixtureFile, "utf8"));
}

/** Twenty steps on the active engine: growth 1 → 2 → 4, LVPS, accumulation, clipping, AdamW; no dropout. */
export async function trainTwentySteps(): Promise<TwentySteps> {
  const text = await realText(20_000);
  const folders = temporaryFolders();
  const optimizer = adamWOptimizer({
    learningRate: 3e-3,
    weightDecay: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
  });
  const losses = async (family: typeof gpt2): Promise<number[]> => {
    const folder = await folders.make();
    const size = { hiddenSize: 8, intermediateSize: 16, dropout: 0 };
    const config = { ...(family === bert ? tinyBert : tinyGpt2), ...size };
    await runTiny(folder, text, { family, config, batchSize: 2, steps: 20, strategies: { optimizer } });
    return (await readMetrics(folder)).map((line) => line.loss);
  };
  try {
    return { gpt2: await losses(gpt2), bert: await losses(bert) };
  } finally {
    await folders.clean();
  }
}
