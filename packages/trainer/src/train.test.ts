import { openCheckpoint } from "@espalier/checkpoints";
import type { SequenceData } from "@espalier/core";
import { stream } from "@espalier/core";
import { disposeParameters, initializeParameters, weightsOf } from "@espalier/growth";
import { bert, gpt2 } from "@espalier/models";
import { adamW, clipByGlobalNorm, globalNorm, softmaxCrossEntropy } from "@espalier/ops";
import { lvpsDefaults, lvpsLaw, samplerOf, targetDepth, uniqueDepth } from "@espalier/plugin-apollo-lvps";
import { scratch } from "@espalier/plugin-scratch";
import { stages } from "@espalier/plugin-stages";
import { readEvents, readMetrics } from "@espalier/tracking";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadEngine } from "./engine.test-support.js";
import { evaluate } from "./evaluation.js";
import { loadWeights } from "./parameters.js";
import { realText, runTiny, temporaryFolders, tinyGpt2, tinyStrategies } from "./tiny-run.test-support.js";
import type { TrainingProgress } from "./training-setup.js";

const folders = temporaryFolders();
let text: SequenceData;
beforeAll(async () => {
  await loadEngine();
  text = await realText();
});
afterAll(() => folders.clean());

describe("a growing run on real text", () => {
  it("learns, grows when the schedule says, accounts for every FLOP, and journals it all", async () => {
    const folder = await folders.make();
    const told: TrainingProgress[] = [];
    const result = await runTiny(folder, text, {
      steps: 40,
      evaluation: { every: 10, batches: 4 },
      checkpoints: { every: 15, keep: 2 },
      onProgress: (progress) => told.push(progress),
    });
    const metrics = await readMetrics(folder);
    const events = await readEvents(folder);

    expect(metrics.map((line) => line.step)).toEqual(Array.from({ length: 40 }, (_, index) => index + 1));
    expect(metrics[0]!.loss).toBeGreaterThan(4.7);
    expect(result.finalTrainLoss).toBe(metrics.at(-1)!.loss);
    expect(result.finalTrainLoss!).toBeLessThan(3.3);
    expect(result.finalEvalLoss!).toBeLessThan(3.3);

    expect(metrics.map((line) => line.uniqueLayers)).toEqual([
      ...Array(10).fill(1),
      ...Array(10).fill(2),
      ...Array(20).fill(4),
    ]);
    expect(result.growths.map(({ step, stage, layerMap }) => ({ step, stage, layerMap }))).toEqual([
      { step: 10, stage: 1, layerMap: [0, 0] },
      { step: 20, stage: 2, layerMap: [0, 0, 1, 1] },
    ]);
    expect(events.filter((event) => event.event === "growth")).toEqual(
      result.growths.map((growth) => ({ event: "growth", time: expect.any(Number), ...growth })),
    );

    let flops = 0;
    for (const line of metrics) {
      expect(line.depths).toHaveLength(2);
      expect(line.depth).toBe(line.depths![1]);
      for (const executedLayers of line.depths!) {
        const load = { batchSize: 4, sequenceLength: 24, executedLayers, countedPositions: 4 * 23 };
        flops += gpt2.cost(tinyGpt2, load).trainingFlops;
      }
      expect(line.flops).toBe(flops);
      expect(line.tokens).toBe(line.step * 2 * 4 * 24);
    }
    expect(result).toMatchObject({
      flops,
      tokens: 40 * 192,
      steps: 40,
      interrupted: false,
      resumedFrom: null,
    });

    expect(events.filter((event) => event.event === "evaluation").map((event) => event.step)).toEqual([
      10, 20, 30, 40,
    ]);
    expect(events.filter((event) => event.event === "checkpoint").map((event) => event.step)).toEqual([
      15, 30, 40,
    ]);
    expect(events.at(0)).toMatchObject({ event: "start", step: 0 });
    expect(events.at(-1)).toMatchObject({
      event: "end",
      step: 40,
      finalEvalLoss: result.finalEvalLoss,
      flops,
    });
    expect(told).toHaveLength(40);
    expect(told.at(-1)).toMatchObject({ step: 40, totalSteps: 40, fraction: 1, secondsLeft: 0 });
  });

  it("trains BERT on masked words as well", async () => {
    const result = await runTiny(await folders.make(), text, { family: bert, steps: 16 });
    expect(result.finalTrainLoss!).toBeLessThan(4.2);
  });
});

it("evaluates in every stage, at the unique layers and at the target depth", async () => {
  const folder = await folders.make();
  await runTiny(folder, text, { steps: 8, evaluation: { every: 1, batches: 2 } });
  const evaluations = (await readEvents(folder)).filter((event) => event.event === "evaluation");
  expect(evaluations.map(({ step, depth, targetDepth }) => [step, depth, targetDepth])).toEqual([
    [1, 1, 4],
    [2, 1, 4],
    [3, 2, 4],
    [4, 2, 4],
    [5, 4, undefined],
    [6, 4, undefined],
    [7, 4, undefined],
    [8, 4, undefined],
  ]);
  for (const { loss, targetLoss } of evaluations) {
    expect(loss).toBeGreaterThan(2);
    if (targetLoss !== undefined) expect(targetLoss).toBeGreaterThan(2);
  }
});

it("evaluates a checkpoint to the loss that the run has measured", async () => {
  const folder = await folders.make();
  const result = await runTiny(folder, text, { steps: 4, evaluation: { every: 0, batches: 2 } });
  const checkpoint = await openCheckpoint(result.checkpoint!);
  const config = { ...tinyGpt2, ...result.shape };
  const weights = await loadWeights(checkpoint, gpt2, config);
  await checkpoint.close();
  const { objective } = tinyStrategies({ unit: "steps", amount: 1, steps: 1 });
  const layerMap = Array.from({ length: config.depth }, (_, layer) => layer);
  const input = { family: gpt2, config, weights, layerMap, data: text, objective, batchSize: 4, batches: 2 };
  const evaluated = await evaluate(input);
  tf.dispose([...weights.values()]);
  expect(evaluated.loss).toBe(result.finalEvalLoss);
  expect(evaluated).toMatchObject({ sequences: 8, positions: 8 * 23, perplexity: Math.exp(evaluated.loss) });
});

it("holds no more tensors from step to step, through growth, evaluation and checkpoints", async () => {
  const before = tf.memory().numTensors;
  const atStep: number[] = [];
  const layerTensors = 4 * 12;
  const outside = 4 * 4;
  await runTiny(await folders.make(), text, {
    steps: 16,
    evaluation: { every: 1, batches: 1 },
    checkpoints: { every: 3, keep: 1 },
    onProgress: () => atStep.push(tf.memory().numTensors - before),
  });
  expect(atStep).toEqual([
    ...Array(4).fill(outside + layerTensors),
    ...Array(4).fill(outside + 2 * layerTensors),
    ...Array(8).fill(outside + 4 * layerTensors),
  ]);
  expect(tf.memory().numTensors).toBe(before);
});

it("never allocates more than the present stage needs", async () => {
  const before = tf.memory().numBytes;
  const bytesOf = (depth: number): number =>
    gpt2
      .parameters({ ...tinyGpt2, depth })
      .reduce((sum, { shape }) => sum + 4 + 12 * shape.reduce((product, size) => product * size, 1), 0);
  const atStep: number[] = [];
  await runTiny(await folders.make(), text, {
    steps: 8,
    evaluation: { every: 1, batches: 1 },
    onProgress: () => atStep.push(tf.memory().numBytes - before),
  });
  expect(atStep).toEqual([1, 1, 2, 2, 4, 4, 4, 4].map(bytesOf));
});

describe("depths", () => {
  const depthsOf = async (changes: Parameters<typeof runTiny>[2], data = text): Promise<unknown> => {
    const folder = await folders.make();
    await runTiny(folder, data, { steps: 6, ...changes });
    return (await readMetrics(folder)).map((line) => line.depths);
  };

  it("are drawn alike by every worker with the same seed, whatever it is trained on", async () => {
    const strategies = {
      schedule: stages({ depths: [1, 4], at: [0, 0.99] }),
      sampler: samplerOf(lvpsLaw({ ...lvpsDefaults, end: 0.9 })),
    };
    const one = await depthsOf({ seed: 7, strategies });
    expect(new Set((one as number[][]).flat()).size).toBeGreaterThan(1);
    expect(
      await depthsOf({ seed: 7, strategies, batchSize: 2, config: { ...tinyGpt2, dropout: 0 } }),
    ).toEqual(one);
    expect(
      await depthsOf(
        { seed: 7, family: bert, strategies, evaluation: { every: 1, batches: 1 } },
        await realText(20_000),
      ),
    ).toEqual(one);
    const sampler = strategies.sampler;
    const shape = { depth: 1, hiddenSize: 16, attentionHeads: 2, intermediateSize: 32 };
    const progress = { step: 0, tokens: 0, flops: 0, stage: 0, fraction: 0, evaluationLoss: null };
    const input = { progress, current: shape, target: { ...shape, depth: 4 } };
    const first = [0, 1].map(
      (micro) => sampler.next(null, input, stream(7).fork("sampler").fork(micro))[0].executedLayers,
    );
    expect((one as number[][])[0]).toEqual(first);
  });
});

describe("against a plain loop", () => {
  it("full depth from the start is training as everybody does it, to the last bit", async () => {
    const folder = await folders.make();
    const config = { ...tinyGpt2, dropout: 0 };
    const strategies = { schedule: scratch(), sampler: uniqueDepth() };
    await runTiny(folder, text, { steps: 6, gradientAccumulation: 1, config, strategies });
    const ours = (await readMetrics(folder)).map((line) => line.loss);

    const random = stream(42);
    const budget = { unit: "steps" as const, amount: 6, steps: 6 };
    const { objective, learningRate } = tinyStrategies(budget);
    const parameters = initializeParameters(gpt2, config, random);
    const losses: number[] = [];
    for (let step = 0; step < 6; step++) {
      const tokens = text.trainingBatch(step, 4, random.fork("order"));
      const prepared = objective.prepare(tokens, 4, 24, random.fork("masking").fork(step));
      const inputIds = tf.tensor2d(prepared.inputIds, [4, 24], "int32");
      const countedPositions = tf.tensor1d(prepared.countedPositions, "int32");
      const labels = tf.tensor1d(prepared.labels, "int32");
      const names = [...parameters.keys()];
      const { value, grads } = tf.engine().gradients(
        () => {
          const input = { inputIds, attentionMask: null, countedPositions };
          const logits = gpt2.forward(weightsOf(parameters), config, input, {
            layerMap: [0, 1, 2, 3],
            dropout: null,
          });
          return softmaxCrossEntropy(logits, labels);
        },
        names.map((name) => parameters.get(name)!.weight),
      );
      losses.push((await value.data())[0]!);
      const norm = globalNorm(grads);
      clipByGlobalNorm(grads, norm, 1);
      const rate =
        0.01 * learningRate.factor({ unit: "steps", position: step + 1, total: 6, sinceGrowth: null });
      adamW(
        names.map((name, index) => ({
          name,
          state: parameters.get(name)!,
          gradient: grads[index]!,
          decay: !/(\.bias|\.ln_\d\.weight|ln_f\.weight)$/.test(name),
        })),
        { learningRate: rate, weightDecay: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
      );
      tf.dispose([inputIds, countedPositions, labels, value, norm, ...grads]);
    }
    disposeParameters(parameters);
    expect(ours).toEqual(losses);
  });

  it("two micro-steps of four sequences are one of eight", async () => {
    const run = async (batchSize: number, gradientAccumulation: number) => {
      const folder = await folders.make();
      const config = { ...tinyGpt2, dropout: 0 };
      const sampler = targetDepth();
      await runTiny(folder, text, {
        steps: 8,
        config,
        batchSize,
        gradientAccumulation,
        strategies: { sampler },
      });
      return readMetrics(folder);
    };
    const [one, two] = [await run(8, 1), await run(4, 2)];
    for (const [index, line] of one.entries()) {
      expect(Math.abs(two[index]!.loss - line.loss)).toBeLessThan(1e-5);
      expect(Math.abs(two[index]!.gradientNorm - line.gradientNorm)).toBeLessThan(1e-4);
      expect(two[index]!.flops).toBe(line.flops);
      expect(two[index]!.tokens).toBe(line.tokens);
    }
  });
});

describe("budgets", () => {
  it("in tokens end after as many tokens, in FLOPs after as many FLOPs, growing on the way", async () => {
    const tokens = await runTiny(await folders.make(), text, {
      budget: { unit: "tokens", amount: 1500, steps: 8 },
    });
    expect(tokens).toMatchObject({ steps: 8, tokens: 1536, stage: 2 });
    const load = { batchSize: 4, sequenceLength: 24, executedLayers: 4, countedPositions: 92 };
    const amount = 12 * gpt2.cost(tinyGpt2, load).trainingFlops;
    const folder = await folders.make();
    const flops = await runTiny(folder, text, { budget: { unit: "flops", amount, steps: null } });
    expect(flops.flops).toBeGreaterThanOrEqual(amount);
    expect(flops.stage).toBe(2);
    const lines = await readMetrics(folder);
    expect(lines.at(-2)!.flops).toBeLessThan(amount);
    for (const { step } of flops.growths) {
      const share = lines[step - 1]!.flops / amount;
      const before = lines[step - 2]!.flops / amount;
      const at = step === flops.growths[0]!.step ? 0.25 : 0.5;
      expect(share).toBeGreaterThanOrEqual(at);
      expect(before).toBeLessThan(at);
    }
  });
});
