import { loadBackend } from "@espalier/backends";
import {
  identityLayerMap,
  type LayerMapping,
  type ModelConfig,
  type ModelFamily,
  momentPolicies,
  stream,
  type TrainingParameters,
} from "@espalier/core";
import { bert, gpt2 } from "@espalier/models";
import { adamW } from "@espalier/ops";
import { interpolatedLayers, interpolationExpander } from "@espalier/plugin-interpolation";
import { perturbedParameters, testInput } from "@espalier/plugin-kit";
import { stackedLayers, stackingExpander } from "@espalier/plugin-stackbert";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { applyGrowthMap, growWeights, weightsOf } from "./apply-growth-map.js";
import { measurePreservation } from "./measure-preservation.js";
import { disposeParameters } from "./parameters.js";

const target = 12;
const random = stream(42);
const slots = ["weight", "firstMoment", "secondMoment", "stepCount"] as const;

function configOf(family: ModelFamily, depth: number): ModelConfig {
  return {
    family: family.name,
    depth,
    hiddenSize: 32,
    attentionHeads: 4,
    intermediateSize: 64,
    vocabSize: 97,
    maxPositions: 16,
    dropout: 0.1,
    initializerRange: 0.2,
    ...family.defaults,
  };
}

beforeAll(async () => {
  await loadBackend({ backend: process.env.ESPALIER_BACKEND, threads: 1 });
});

/** The bits of the logits at every executed depth that the next stage can draw. */
async function logitBits(
  family: ModelFamily,
  config: ModelConfig,
  parameters: TrainingParameters,
  mapping: LayerMapping,
  depths: readonly number[],
): Promise<Int32Array[]> {
  const bits: Int32Array[] = [];
  const input = testInput(config, 2, 9);
  for (const depth of depths) {
    const logits = tf.tidy(() =>
      family.forward(weightsOf(parameters), config, input, {
        layerMap: mapping(config.depth, depth, random),
        dropout: null,
      }),
    );
    bits.push(new Int32Array(new Float32Array(await logits.data()).buffer));
    logits.dispose();
  }
  input.inputIds.dispose();
  return bits;
}

describe.each([bert, gpt2])("growth of $name", (family) => {
  it("by interpolation 1 → 3 → 6 → 12 changes no bit of the logits, at any depth that the next stage can draw", async () => {
    const start = tf.memory().numTensors;
    const expander = interpolationExpander({ mode: "nearest", moments: "carry" });
    let depth = 1;
    let parameters = perturbedParameters(family, configOf(family, depth), random);
    for (const next of [3, 6, target]) {
      const depths = Array.from({ length: target - next + 1 }, (_, more) => next + more);
      const before = await logitBits(family, configOf(family, depth), parameters, interpolatedLayers, depths);
      const map = expander.plan(configOf(family, depth), configOf(family, next), family, random);
      parameters = applyGrowthMap(map, parameters, { config: configOf(family, next), family, random });
      const after = await logitBits(family, configOf(family, next), parameters, interpolatedLayers, depths);
      expect(after).toEqual(before);
      // Logits that are all alike would prove nothing.
      expect(new Set(before[0]).size).toBeGreaterThan(before[0]!.length / 2);
      depth = next;
    }
    disposeParameters(parameters);
    expect(tf.memory().numTensors).toBe(start);
  });

  it("is measured to change them where depths do not divide, by stacking, and by blending", async () => {
    const cases = [
      [4, 6, interpolationExpander({ mode: "nearest", moments: "carry" }), interpolatedLayers],
      [3, 6, interpolationExpander({ mode: "linear", moments: "carry" }), interpolatedLayers],
      [3, 6, stackingExpander({ moments: "reset" }), stackedLayers],
    ] as const;
    const start = tf.memory().numTensors;
    for (const [from, to, expander, mapping] of cases) {
      const before = perturbedParameters(family, configOf(family, from), random);
      const map = expander.plan(configOf(family, from), configOf(family, to), family, random);
      const after = growWeights(map, weightsOf(before), { config: configOf(family, to), family, random });
      const input = testInput(configOf(family, from), 2, 9);
      const measured = await measurePreservation({
        family,
        before: { config: configOf(family, from), parameters: weightsOf(before) },
        after: { config: configOf(family, to), parameters: after },
        input,
        depths: [6, 8, 10, 11, target],
        mapping,
        random,
      });
      expect(Math.max(...measured.map(({ maxDifference }) => maxDifference))).toBeGreaterThan(1e-3);
      const own = await measurePreservation({
        family,
        before: { config: configOf(family, from), parameters: weightsOf(before) },
        after: { config: configOf(family, from), parameters: weightsOf(before) },
        input,
        depths: [from],
        mapping: { before: identityLayerMap, after: identityLayerMap },
        random,
      });
      expect(own).toEqual([{ depth: from, maxDifference: 0 }]);
      input.inputIds.dispose();
      disposeParameters(before);
      tf.dispose([...after.values()]);
    }
    expect(tf.memory().numTensors).toBe(start);
  });
});

describe("a grown training state", () => {
  const configAt = (depth: number): ModelConfig => configOf(gpt2, depth);

  it.each(momentPolicies)("has parameters that AdamW updates one by one: %s", (moments) => {
    const expander = interpolationExpander({ mode: "nearest", moments });
    const map = expander.plan(configAt(1), configAt(3), gpt2, random);
    const grown = applyGrowthMap(map, perturbedParameters(gpt2, configAt(1), random), {
      config: configAt(3),
      family: gpt2,
      random,
    });
    const values = () =>
      new Map([...grown].map(([name, state]) => [name, slots.map((slot) => [...state[slot].dataSync()])]));
    for (const { name } of gpt2.layout(3).filter((place) => place.layer === 1)) {
      const before = values();
      const state = grown.get(name)!;
      const gradient = tf.ones(state.weight.shape);
      adamW([{ name, state, gradient, decay: false }], {
        learningRate: 0.1,
        weightDecay: 0,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
      });
      gradient.dispose();
      const after = values();
      const touched = [...before.keys()].filter(
        (other) => JSON.stringify(after.get(other)) !== JSON.stringify(before.get(other)),
      );
      expect(touched).toEqual([name]);
      expect(after.get(name)![3]).toEqual([before.get(name)![3]![0]! + 1]);
    }
    disposeParameters(grown);
  });

  it("blends and mixes as the map says", () => {
    const before = perturbedParameters(gpt2, configAt(2), random);
    const read = (parameters: TrainingParameters, layer: number): number[] => [
      ...parameters.get(gpt2.layerParameter(layer, "mlp.c_fc.weight"))!.weight.dataSync(),
    ];
    const [bottom, top] = [read(before, 0), read(before, 1)];
    const map = interpolationExpander({ mode: "linear", moments: "carry" }).plan(
      configAt(2),
      configAt(4),
      gpt2,
      random,
    );
    const grown = applyGrowthMap(map, before, { config: configAt(4), family: gpt2, random });
    for (const [layer, share] of [0, 1 / 3, 2 / 3, 1].entries()) {
      const made = read(grown, layer);
      const furthest = made.map((value, index) =>
        Math.abs(value - ((1 - share) * bottom[index]! + share * top[index]!)),
      );
      expect(Math.max(...furthest)).toBeLessThan(1e-6);
    }
    disposeParameters(grown);
  });
});
