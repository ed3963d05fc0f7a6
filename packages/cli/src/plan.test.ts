import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { espalier, makeFolder } from "./testing/espalier.js";

interface Stage {
  readonly index: number;
  readonly depth: number;
  readonly firstStep: number;
  readonly steps: number;
  readonly distribution: { readonly [depth: string]: number };
  readonly expectedDepth: number;
  readonly flopsPerStep: number;
}
interface PlanJson {
  readonly stages: readonly Stage[];
  readonly parameters: number;
  readonly steps: number;
  readonly totalFlops: number;
  readonly fullDepthFlops: number;
  readonly predictedSaving: number;
  readonly memory: { readonly parameters: number; readonly optimizer: number };
}

const hidden = 16;
const vocabulary = 300;
const batch = 4;
const sequence = 32;
const accumulation = 2;
const definition = `name: planned
model: { family: gpt2, depth: 12, hiddenSize: ${hidden}, attentionHeads: 2 }
data: { corpus: { use: text, files: nowhere.txt }, tokenizer: { kind: bpe, vocabSize: ${vocabulary} }, sequenceLength: ${sequence} }
growth: { preset: apollo }
training: { steps: 400, batchSize: ${batch}, gradientAccumulation: ${accumulation} }
`;

/** Matrix products at 2·m·n·k, forward and twice that backward: GPT-2's layers and its head on all positions but the last. */
function stepFlops(layers: number): number {
  const tokens = batch * sequence;
  const products = 2 * tokens * (3 + 1 + 4 + 4) * hidden ** 2;
  const attention = 2 * 2 * tokens * sequence * hidden;
  const head = 2 * batch * (sequence - 1) * hidden * vocabulary;
  return accumulation * 3 * (layers * (products + attention) + head);
}

function parameterCount(layers: number): number {
  const layer = 12 * hidden ** 2 + 13 * hidden;
  return layers * layer + (vocabulary + sequence + 2) * hidden;
}

let folder: Awaited<ReturnType<typeof makeFolder>>;
beforeAll(async () => {
  folder = await makeFolder();
  await writeFile(join(folder.path, "planned.yaml"), definition);
});
afterAll(() => folder.remove());

async function plan(...overrides: string[]): Promise<PlanJson> {
  const { code, stdout, stderr } = await espalier(["plan", "planned.yaml", ...overrides, "--json"], {
    cwd: folder.path,
  });
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as PlanJson;
}

describe("espalier plan", () => {
  it("has Apollo's stages, exact distributions and costs, and reads no corpus", async () => {
    const { stages, parameters, totalFlops, fullDepthFlops, predictedSaving, memory } = await plan();
    expect(stages.map(({ index, depth, firstStep, steps }) => [index, depth, firstStep, steps])).toEqual([
      [0, 1, 0, 20],
      [1, 3, 20, 20],
      [2, 6, 40, 60],
      [3, 12, 100, 300],
    ]);
    // Exact values of LVPS for M = 12: U = 1, 3 and 12.
    expect(stages[0]!.distribution["1"]).toBeCloseTo(217 / 295, 12);
    expect(stages[0]!.distribution["12"]).toBeCloseTo(1 / 590, 12);
    expect(stages[0]!.expectedDepth).toBeCloseTo(2407931 / 1362900, 10);
    expect(stages[1]!.distribution["3"]).toBeCloseTo(121 / 190, 12);
    expect(stages[1]!.expectedDepth).toBeCloseTo(56201 / 13300, 10);
    expect(stages[3]!.distribution).toEqual({ "12": 1 });
    for (const { distribution, expectedDepth, flopsPerStep } of stages) {
      const entries = Object.entries(distribution).map(([depth, p]) => [Number(depth), p] as const);
      expect(entries.reduce((sum, [, p]) => sum + p, 0)).toBeCloseTo(1, 12);
      expect(entries.reduce((sum, [depth, p]) => sum + depth * p, 0)).toBeCloseTo(expectedDepth, 12);
      const expected = entries.reduce((sum, [depth, p]) => sum + p * stepFlops(depth), 0);
      expect(flopsPerStep / expected).toBeCloseTo(1, 12);
    }
    const total = stages.reduce((sum, { steps, flopsPerStep }) => sum + steps * flopsPerStep, 0);
    expect(totalFlops / total).toBeCloseTo(1, 12);
    expect(fullDepthFlops).toBe(400 * stepFlops(12));
    expect(predictedSaving).toBeCloseTo(1 - totalFlops / fullDepthFlops, 12);
    expect(parameters).toBe(parameterCount(12));
    // Two moments of every weight, and a step count of each of the 12 · 12 + 4 parameters.
    expect(memory).toMatchObject({
      parameters: 4 * parameterCount(12),
      optimizer: 8 * parameterCount(12) + 4 * 148,
    });
  });

  it("saves nothing from scratch", async () => {
    const scratch = await plan("growth.preset=scratch");
    expect(scratch.stages).toHaveLength(1);
    expect(scratch.stages[0]).toMatchObject({
      depth: 12,
      firstStep: 0,
      steps: 400,
      distribution: { "12": 1 },
    });
    expect(scratch.totalFlops).toBe(400 * stepFlops(12));
    expect(scratch.predictedSaving).toBe(0);
  });

  it("counts tokens in whole steps", async () => {
    const perStep = batch * sequence * accumulation;
    const { steps, stages } = await plan(`training.tokens=${100 * perStep + 5}`);
    expect(steps).toBe(100);
    expect(stages.map(({ firstStep }) => firstStep)).toEqual([0, 5, 10, 25]);
  });

  it("spends a budget of FLOPs at the expected rate, each stage its share", async () => {
    const budget = 1e10;
    const { stages, totalFlops } = await plan(`training.flops=${budget}`);
    const shares = [0.05, 0.05, 0.15, 0.75];
    for (const [index, { steps, flopsPerStep }] of stages.entries())
      expect(Math.abs(steps * flopsPerStep - shares[index]! * budget)).toBeLessThan(2 * stepFlops(12));
    expect(totalFlops).toBeGreaterThanOrEqual(budget);
    expect(totalFlops).toBeLessThan(budget + stepFlops(12));
  });

  it("lets explicit keys override the preset's, and inherits no options of another strategy", async () => {
    const uniform = await plan("growth.sampler=uniform");
    expect(Object.values(uniform.stages[0]!.distribution)).toEqual(
      Array(12).fill(expect.closeTo(1 / 12, 12)),
    );
    // The preset's `stages` options would be refused by `scratch`.
    expect((await plan("growth.schedule=scratch")).stages).toHaveLength(1);
    // An option alone belongs to the preset's strategy.
    const flatter = await plan("growth.sampler.end=0.5");
    expect(flatter.stages[0]!.distribution["1"]).toBeGreaterThan(217 / 295);
  });

  it("has the published total of BERT-Base in the ELECTRA convention", async () => {
    // LiGO's counter: 12 layers, sequence 128, batch 256, 400 000 steps; dense look-ups of 30 522 tokens.
    const bert = "model={ family: bert, depth: 12, hiddenSize: 768, attentionHeads: 12 }";
    const { code, stdout, stderr } = await espalier(
      [
        ...["plan", "planned.yaml", bert, "data.sequenceLength=128", "growth.preset=scratch"],
        ...["data.tokenizer={ kind: wordpiece, vocabSize: 30522 }", "training.gradientAccumulation=4"],
        ...["training.batchSize=64", "training.steps=400000", "--electra", "--json"],
      ],
      { cwd: folder.path },
    );
    expect(code, stderr).toBe(0);
    const { electra } = JSON.parse(stdout) as { electra: { totalFlops: number; predictedSaving: number } };
    expect(electra.totalFlops / 6.027292532736e18).toBeCloseTo(1, 10);
    expect(electra.predictedSaving).toBe(0);
  });

  it("draws the distribution of each stage as bars for people", async () => {
    const { code, stdout } = await espalier(["plan", "planned.yaml"], { cwd: folder.path });
    expect(code).toBe(0);
    expect(stdout).toMatch(/stage 0 {2}steps 1–20 .*1 unique layer,/);
    expect(stdout).toMatch(/^ {3}1 █{40} +73\.6 %$/m);
    expect(stdout).toMatch(/saved +\d+\.\d % at equal steps/);
  });
});
