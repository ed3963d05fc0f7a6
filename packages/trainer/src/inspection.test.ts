import { identityLayerMap, stream } from "@espalier/core";
import { causalLm } from "@espalier/data";
import { disposeParameters, initializeParameters, weightsOf } from "@espalier/growth";
import { bert, gpt2 } from "@espalier/models";
import { interpolationExpander } from "@espalier/plugin-interpolation";
import * as tf from "@tensorflow/tfjs";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { benchmarkStep } from "./benchmark.js";
import { loadEngine } from "./engine.test-support.js";
import { type GenerationOptions, generate } from "./generate.js";
import { probeBatch } from "./probe.js";
import { parseProbeBatch } from "./probe-batch.js";
import { tinyBert, tinyGpt2, tinyStrategies } from "./tiny-run.test-support.js";

beforeAll(loadEngine);
let before: number;
beforeEach(() => {
  before = tf.memory().numTensors;
});
afterEach(() => expect(tf.memory().numTensors).toBe(before));

const json = {
  input_ids: [
    [5, 6, 7, 8],
    [9, 10, 11, 0],
  ],
  attention_mask: [
    [1, 1, 1, 1],
    [1, 1, 1, 0],
  ],
  labels: [
    [5, 6, 7, 8],
    [9, -100, 11, -100],
  ],
};

function logSoftmax(logits: readonly number[], label: number): number {
  const largest = Math.max(...logits);
  return logits[label]! - largest - Math.log(logits.reduce((sum, x) => sum + Math.exp(x - largest), 0));
}

describe("probing", () => {
  it("gives every logit, and the loss over the labels that count, shifted in a causal model", async () => {
    const parameters = initializeParameters(gpt2, tinyGpt2, stream(1));
    const batch = parseProbeBatch(json, "batch.json", gpt2, tinyGpt2);
    const model = { family: gpt2, config: tinyGpt2, parameters, layerMap: identityLayerMap(4) };
    const result = await probeBatch(model, batch);
    disposeParameters(parameters);
    expect([result.logits.length, result.logits[1]!.length, result.logits[1]![3]!.length]).toEqual([
      2, 4, 128,
    ]);
    const counted = [
      [0, 0, 6],
      [0, 1, 7],
      [0, 2, 8],
      [1, 1, 11],
    ] as const;
    const loss =
      -counted.reduce((sum, [row, at, label]) => sum + logSoftmax(result.logits[row]![at]!, label), 0) / 4;
    expect(result.loss).toBeCloseTo(loss, 5);
    expect(Object.keys(result.gradNorms)).toEqual(gpt2.layout(4).map((place) => place.name));
    const total = Math.sqrt(Object.values(result.gradNorms).reduce((sum, norm) => sum + norm * norm, 0));
    expect(result.globalGradNorm).toBeCloseTo(total, 5);
    expect(result.losses).toBeUndefined();
  });

  it("counts labels where they stand in BERT, and adds up the gradients of shared layers", async () => {
    const config = { ...tinyBert, depth: 2 };
    const parameters = initializeParameters(bert, config, stream(1));
    const batch = parseProbeBatch(json, "batch.json", bert, config);
    const model = { family: bert, config, parameters };
    const plain = await probeBatch({ ...model, layerMap: [0, 1] }, batch);
    const positions = [...json.labels.entries()].flatMap(([row, labels]) =>
      [...labels.entries()]
        .filter(([, label]) => label !== -100)
        .map(([at, label]) => [row, at, label] as const),
    );
    const sum = positions.reduce(
      (sum, [row, at, label]) => sum + logSoftmax(plain.logits[row]![at]!, label),
      0,
    );
    expect(plain.loss).toBeCloseTo(-sum / positions.length, 5);
    const shared = await probeBatch({ ...model, layerMap: [0, 0, 1, 1] }, batch);
    disposeParameters(parameters);
    expect(Object.keys(shared.gradNorms)).toEqual(Object.keys(plain.gradNorms));
    expect(shared.loss).not.toBe(plain.loss);
    const unused = await (async () => {
      const fresh = initializeParameters(bert, config, stream(1));
      const result = await probeBatch({ ...model, parameters: fresh, layerMap: [0] }, batch);
      disposeParameters(fresh);
      return result;
    })();
    expect(Object.keys(unused.gradNorms).some((name) => name.includes("layer.1."))).toBe(false);
  });

  it("trains steps on the batch, and says the loss before each", async () => {
    const parameters = initializeParameters(gpt2, tinyGpt2, stream(1));
    const batch = parseProbeBatch(json, "batch.json", gpt2, tinyGpt2);
    const model = { family: gpt2, config: tinyGpt2, parameters, layerMap: identityLayerMap(4) };
    const training = { steps: 5, learningRate: 1e-2, weightDecay: 0.01, clip: 1 };
    const { loss, losses } = await probeBatch(model, batch, training);
    const after = await probeBatch(model, batch);
    disposeParameters(parameters);
    expect(losses).toHaveLength(5);
    expect(losses![0]).toBe(loss);
    for (const [step, value] of losses!.slice(1).entries()) expect(value).toBeLessThan(losses![step]!);
    expect(after.loss).toBeLessThan(losses!.at(-1)!);
  });

  it.each([
    ["a missing key", { input_ids: [[1]] }, "labels"],
    [
      "ragged rows",
      {
        input_ids: [[1, 2], [3]],
        labels: [
          [1, 2],
          [3, 4],
        ],
      },
      "input_ids must have 2 rows of 2 numbers",
    ],
    ["other rows", { input_ids: [[1, 2]], labels: [[1]] }, "labels must have 1 rows of 2 numbers"],
    [
      "a token beyond the vocabulary",
      { input_ids: [[1, 128]], labels: [[1, 2]] },
      "input_ids.0.1 is 128, but the vocabulary is 0 to 127",
    ],
    [
      "an impossible label",
      { input_ids: [[1, 2]], labels: [[-1, 2]] },
      "labels.0.0 is -1, but must be -100 or",
    ],
    [
      "no label that counts",
      { input_ids: [[1, 2]], labels: [[1, -100]] },
      "labels have no position that counts",
    ],
    [
      "a row that is too long",
      { input_ids: [Array(25).fill(1)], labels: [Array(25).fill(1)] },
      "has 25 positions, but the model has 24",
    ],
    ["a key that is not known", { ...json, position_ids: [[0]] }, "position_ids"],
  ])("refuses a batch with %s", (_, batch, message) => {
    const parse = () => parseProbeBatch(batch, "batch.json", gpt2, tinyGpt2);
    expect(parse).toThrow(message);
    expect(parse).toThrow(expect.objectContaining({ file: "batch.json", exitCode: 2 }));
  });
});

describe("generating", () => {
  async function text(options: Partial<GenerationOptions>): Promise<number[]> {
    const parameters = initializeParameters(gpt2, tinyGpt2, stream(3));
    const tokens: number[] = [];
    try {
      const defaults = {
        family: gpt2,
        config: tinyGpt2,
        weights: weightsOf(parameters),
        prompt: [1, 2],
        newTokens: 30,
        temperature: 1,
        topK: null,
        endOfText: null,
        random: stream(5).fork("sample"),
      };
      for await (const token of generate({ ...defaults, ...options })) tokens.push(token);
    } finally {
      disposeParameters(parameters);
    }
    return tokens;
  }

  it("is a function of the seed, and goes beyond the model's positions", async () => {
    const one = await text({});
    expect(one).toHaveLength(30);
    expect(await text({})).toEqual(one);
    expect(await text({ random: stream(6) })).not.toEqual(one);
  });

  it("takes the likeliest token at temperature 0 and among one", async () => {
    const greedy = await text({ temperature: 0 });
    expect(await text({ topK: 1, random: stream(9) })).toEqual(greedy);
    expect(await text({ temperature: 0, endOfText: greedy[0]! })).toEqual([]);
  });

  it("refuses a model of masked words and impossible options", async () => {
    await expect(text({ family: bert })).rejects.toThrow("predicts masked tokens and continues no text");
    await expect(text({ prompt: [] })).rejects.toThrow("prompt has no token");
    await expect(text({ temperature: -1 })).rejects.toThrow("temperature must be at least 0");
    await expect(text({ topK: 0 })).rejects.toThrow("topK must be a whole number");
  });
});

it("a benchmark times steps and a growth, and leaves nothing behind", async () => {
  const { optimizer } = tinyStrategies({ unit: "steps", amount: 1, steps: 1 });
  const seen: number[] = [];
  const result = await benchmarkStep({
    family: gpt2,
    config: tinyGpt2,
    layerMap: identityLayerMap(4),
    profile: false,
    objective: causalLm(),
    optimizer,
    batchSize: 2,
    sequenceLength: 16,
    gradientAccumulation: 2,
    gradientClipNorm: 1,
    random: stream(1),
    warmup: 1,
    steps: 3,
    growth: {
      from: { ...tinyGpt2, depth: 2 },
      expander: interpolationExpander({ mode: "nearest", moments: "carry" }),
    },
    onStep: (step) => seen.push(step),
  });
  expect(seen).toEqual([1, 2, 3]);
  expect(result.leakedTensors).toBe(0);
  expect(result.tokensPerSecond).toBeCloseTo(64 / result.stepSeconds, 6);
  expect(result.growthSeconds!).toBeGreaterThan(0);
  expect(result.peakBytes).toBeGreaterThan(1e7);
});
