import type { ModelConfig } from "@espalier/core";
import { describe, expect, it } from "vitest";
import { bert } from "./bert.js";
import { electraFlops, electraTrainingFlops } from "./electra-flops.js";
import { gpt2 } from "./gpt2.js";

const bertBase: ModelConfig = {
  family: "bert",
  depth: 12,
  hiddenSize: 768,
  attentionHeads: 12,
  intermediateSize: 3072,
  vocabSize: 30522,
  maxPositions: 512,
  dropout: 0.1,
  layerNormEpsilon: 1e-12,
  initializerRange: 0.02,
  tokenTypes: 2,
};

describe("cost in closed form", () => {
  const load = { batchSize: 2, sequenceLength: 8, executedLayers: 3, countedPositions: 5 };
  const small = { ...bertBase, hiddenSize: 4, attentionHeads: 2, intermediateSize: 6, vocabSize: 10 };
  // 16 positions: 4 projections, 2 products of attention with 8 keys, 2 feed-forward products.
  const layer = 4 * (2 * 16 * 4 * 4) + 2 * (2 * 16 * 8 * 4) + 2 * (2 * 16 * 4 * 6);

  it("counts BERT's layers, transform and decoder", () => {
    const forwardFlops = 3 * layer + 2 * 5 * 4 * 4 + 2 * 5 * 4 * 10;
    expect(bert.cost(small, load)).toEqual({ forwardFlops, trainingFlops: 3 * forwardFlops });
  });

  it("counts GPT-2's layers and head", () => {
    const forwardFlops = 3 * layer + 2 * 5 * 4 * 10;
    expect(gpt2.cost(small, load)).toEqual({ forwardFlops, trainingFlops: 3 * forwardFlops });
  });

  it("counts bytes of parameters, gradients and moments exactly", () => {
    const elements = 109_514_298;
    const memory = bert.memory(bertBase, { ...load, executedLayers: 12 });
    expect(memory.parameters).toBe(4 * elements);
    expect(memory.gradients).toBe(4 * elements);
    expect(memory.optimizer).toBe(8 * elements + 4 * bert.parameters(bertBase).length);
  });

  it("needs more activations with depth, batch and dropout", () => {
    const activations = (config: ModelConfig, change: object) =>
      gpt2.memory(config, { ...load, ...change }).activations;
    const dry = { ...small, dropout: 0 };
    expect(activations(dry, { executedLayers: 6 })).toBeGreaterThan(activations(dry, {}));
    expect(activations(dry, { batchSize: 4 })).toBeGreaterThan(activations(dry, {}));
    expect(activations(small, {})).toBeGreaterThan(activations(dry, {}));
  });

  it("needs less of them in bf16, but also a copy of the weights; the rest stays float32", () => {
    const elements = 109_514_298;
    const deep = { batchSize: 32, sequenceLength: 128, executedLayers: 12, countedPositions: 614 };
    const [full, half] = [bert.memory(bertBase, deep), bert.memory(bertBase, deep, { precision: "bf16" })];
    expect({ ...half, activations: 0 }).toEqual({ ...full, activations: 0 });
    // Per position and layer, four of the eight widths and both intermediate ones take two bytes less.
    const saved = 12 * 32 * 128 * 2 * (4 * 768 + 2 * 3072) + 12 * 32 * 128 * 2 * 12 * 128;
    expect(full.activations - half.activations).toBe(saved - 2 * elements);
  });

  it("needs one layer's activations, and every layer's input, with recomputation", () => {
    const deep = { batchSize: 32, sequenceLength: 128, executedLayers: 12, countedPositions: 614 };
    const activations = (executedLayers: number, recompute: boolean) =>
      bert.memory(bertBase, { ...deep, executedLayers }, { recompute }).activations;
    const input = 4 * 32 * 128 * 768;
    expect(activations(12, true)).toBe(activations(1, false) + 12 * input);
  });
});

// Values that LiGO's published counter gives.
describe("the ELECTRA convention", () => {
  const steps = { batchSize: 256, steps: 400_000 };
  const small = { ...bertBase, depth: 6, hiddenSize: 512, attentionHeads: 8, intermediateSize: 2048 };

  it("gives LiGO's parts of BERT-Base", () => {
    expect(electraFlops(bertBase, 128)).toEqual({
      block: 1_869_742_720,
      inputEmbedding: 6_027_509_760,
      output: 965_716_920,
    });
    expect(electraFlops(small, 128).block).toBe(843_842_176);
    expect(electraFlops(bertBase, 512).block).toBe(8_106_543_616);
  });

  it.each([
    ["BERT-Base", bertBase, 128, 6.027292532736e18],
    ["6 layers of 512", small, 128, 1.9909397823488e18],
    ["1 layer of 768", { ...bertBase, depth: 1 }, 128, 1.81513613312e18],
    ["3 layers of 768", { ...bertBase, depth: 3 }, 128, 2.580982751232e18],
    ["6 layers of 768", { ...bertBase, depth: 6 }, 128, 3.7297526784e18],
    ["BERT-Base at 512", bertBase, 512, 2.5713340416e19],
  ])("gives LiGO's total of %s", (_, config, sequenceLength, expected) => {
    const total = electraTrainingFlops(config, { ...steps, sequenceLength });
    expect(Math.abs(total / expected - 1)).toBeLessThan(1e-12);
  });
});
