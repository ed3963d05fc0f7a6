import { loadBackend } from "@espalier/backends";
import { type ModelConfig, type ModelFamily, stream } from "@espalier/core";
import { bert, gpt2 } from "@espalier/models";
import { backpropagate, softmaxCrossEntropy } from "@espalier/ops";
import { aki, directCopy, fpi, type Selection } from "@espalier/plugin-bert2bert";
import { interpolationExpander } from "@espalier/plugin-interpolation";
import { perturbedParameters, testInput } from "@espalier/plugin-kit";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { applyGrowthMap, growWeights, weightsOf } from "./apply-growth-map.js";
import { disposeParameters } from "./parameters.js";

const random = stream(42);

function configOf(family: ModelFamily, hiddenSize: number, depth = 2): ModelConfig {
  return {
    family: family.name,
    depth,
    hiddenSize,
    attentionHeads: hiddenSize / 12,
    intermediateSize: 2 * hiddenSize,
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

async function values(tensor: tf.Tensor): Promise<Float32Array> {
  const read = new Float32Array(await tensor.data());
  tensor.dispose();
  return read;
}

function furthest(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, value, index) => Math.max(most, Math.abs(value - b[index]!)), 0);
}

function logitsOf(
  family: ModelFamily,
  config: ModelConfig,
  weights: Map<string, tf.Tensor>,
  layerMap = [...Array(config.depth).keys()],
): tf.Tensor2D {
  const input = testInput(config, 2, 9);
  const logits = family.forward(weights, config, input, { layerMap, dropout: null });
  input.inputIds.dispose();
  return logits;
}

/** max |logits before − after| of a growth in width. */
async function change(family: ModelFamily, to: number, selection: Selection): Promise<number> {
  const [small, large] = [configOf(family, 48), configOf(family, to)];
  const source = perturbedParameters(family, small, random);
  const map = fpi({ selection, moments: "gradient" }).plan(small, large, family, random.fork("growth"));
  const grown = growWeights(map, weightsOf(source), { config: large, family, random });
  const before = await values(logitsOf(family, small, weightsOf(source)));
  const after = await values(logitsOf(family, large, grown));
  disposeParameters(source);
  tf.dispose([...grown.values()]);
  // Logits that are all alike would prove nothing.
  expect(new Set(before).size).toBeGreaterThan(before.length / 2);
  return furthest(before, after) / Math.max(...before.map(Math.abs));
}

describe.each([bert, gpt2])("growth of $name in width", (family) => {
  it("by FPI changes no logit where every unit is copied equally often", async () => {
    const start = tf.memory().numTensors;
    for (const to of [96, 144]) expect(await change(family, to, "balanced")).toBeLessThan(1e-5);
    expect(tf.memory().numTensors).toBe(start);
  });

  it("is measured to change them otherwise, because layer norm sees another mean and variance", async () => {
    for (const [to, selection] of [
      [72, "balanced"],
      [96, "uniform"],
    ] as const)
      expect(await change(family, to, selection)).toBeGreaterThan(1e-3);
  });

  it("by FPI gives the moments that the grown model's own gradients would have left", async () => {
    const start = tf.memory().numTensors;
    const [small, large] = [configOf(family, 48), configOf(family, 96)];
    const source = perturbedParameters(family, small, random);
    const gradients = gradientsOf(family, small, weightsOf(source));
    for (const [name, gradient] of gradients) {
      const state = source.get(name)!;
      tf.dispose([state.firstMoment, state.secondMoment]);
      state.firstMoment = gradient;
      state.secondMoment = tf.square(gradient);
    }
    const operator = fpi({ selection: "balanced", moments: "gradient" });
    const map = operator.plan(small, large, family, random.fork("growth"));
    const grown = applyGrowthMap(map, source, { config: large, family, random });
    const own = gradientsOf(family, large, weightsOf(grown));
    for (const [name, gradient] of own) {
      const { firstMoment, secondMoment } = grown.get(name)!;
      const wanted = await values(gradient);
      const scale = Math.max(...wanted.map(Math.abs));
      // What no gradient reaches (a key's bias under softmax) is rounding alone.
      const tolerance = 1e-4 * Math.max(scale, 1e-2);
      expect(furthest(wanted, new Float32Array(await firstMoment.data())), name).toBeLessThan(tolerance);
      const squares = wanted.map((value) => value * value);
      expect(furthest(squares, new Float32Array(await secondMoment.data())), name).toBeLessThan(
        4 * tolerance * Math.max(scale, 1e-2),
      );
    }
    disposeParameters(grown);
    expect(tf.memory().numTensors).toBe(start);
  });

  it("goes with interpolation in depth: wider and deeper, the same logits on shared layers", async () => {
    const [small, large] = [configOf(family, 48, 2), configOf(family, 96, 4)];
    const width = fpi({ selection: "balanced", moments: "gradient" });
    const expander = interpolationExpander({ mode: "nearest", moments: "carry", width });
    const source = perturbedParameters(family, small, random);
    const map = expander.plan(small, large, family, random.fork("growth"));
    const before = await values(logitsOf(family, small, weightsOf(source), [0, 0, 1, 1]));
    const grown = applyGrowthMap(map, source, { config: large, family, random });
    const after = await values(logitsOf(family, large, weightsOf(grown)));
    expect(furthest(before, after) / Math.max(...before.map(Math.abs))).toBeLessThan(1e-5);
    disposeParameters(grown);
  });

  it("by direct copy keeps the source in a corner of every matrix and initialises the rest", async () => {
    const [small, large] = [configOf(family, 24), configOf(family, 48)];
    const source = perturbedParameters(family, small, random);
    const map = directCopy().plan(small, large, family, random.fork("growth"));
    const grown = growWeights(map, weightsOf(source), { config: large, family, random });
    const name = family
      .layout(2)
      .find(({ axes }) => axes.includes("intermediate") && axes.includes("hidden"))!;
    const [rows, columns] = source.get(name.name)!.weight.shape as [number, number];
    const corner = await values(tf.slice(grown.get(name.name)!, [0, 0], [rows, columns]));
    expect(corner).toEqual(new Float32Array(await source.get(name.name)!.weight.data()));
    const rest = await values(tf.slice(grown.get(name.name)!, [rows, 0], [rows, 2 * columns]));
    const deviation = Math.sqrt(rest.reduce((sum, value) => sum + value * value, 0) / rest.length);
    const spec = family.parameters(large).find((each) => each.name === name.name)!;
    const wanted = spec.initializer.kind === "normal" ? spec.initializer.deviation : Number.NaN;
    expect(Math.abs(deviation / wanted - 1)).toBeLessThan(5 / Math.sqrt(2 * rest.length));
    tf.dispose([...grown.values()]);
    disposeParameters(source);
  });

  it("by AKI takes new outputs from the next layer", async () => {
    const [small, large] = [configOf(family, 24), configOf(family, 48)];
    const source = perturbedParameters(family, small, random);
    const plan = (operator: ReturnType<typeof aki>) =>
      growWeights(operator.plan(small, large, family, random.fork("growth")), weightsOf(source), {
        config: large,
        family,
        random,
      });
    const own = plan(fpi({ selection: "balanced", moments: "reset" }));
    const advanced = plan(aki({ selection: "balanced", moments: "reset" }));
    for (const place of family.layout(2)) {
      const [here, given] = [own.get(place.name)!, advanced.get(place.name)!];
      const next = place.layer === 0 ? own.get(family.layerParameter(1, place.suffix))! : here;
      const output = place.axes.findIndex((_, axis) => axis !== place.inputAxis);
      if (place.inputAxis === null || place.axes[output] === "qkv") {
        if (place.layer === null || place.layer === 1)
          expect(await values(tf.clone(given))).toEqual(await values(tf.clone(here)));
        continue;
      }
      const half = given.shape[output]! / 2;
      const [oldGiven, newGiven] = tf.split(given, 2, output) as [tf.Tensor, tf.Tensor];
      const begin = (at: number) => given.shape.map((_, axis) => (axis === output ? at : 0));
      const size = given.shape.map((length, axis) => (axis === output ? half : length));
      expect(await values(oldGiven)).toEqual(await values(tf.slice(here, begin(0), size)));
      expect(await values(newGiven)).toEqual(await values(tf.slice(next, begin(half), size)));
    }
    tf.dispose([...own.values(), ...advanced.values()]);
    disposeParameters(source);
  });
});

function gradientsOf(
  family: ModelFamily,
  config: ModelConfig,
  weights: ReturnType<typeof weightsOf>,
): Map<string, tf.Tensor> {
  const input = testInput(config, 2, 9);
  const labels = tf.tensor1d(
    Array.from({ length: 18 }, (_, position) => (7 * position) % config.vocabSize),
    "int32",
  );
  const gradients = new Map<string, tf.Tensor>();
  const one = tf.scalar(1);
  const loss = backpropagate(
    () =>
      softmaxCrossEntropy(
        family.forward(weights, config, input, { layerMap: [0, 1], dropout: null }),
        labels,
      ),
    weights,
    one,
    gradients,
  );
  tf.dispose([loss, one, labels, input.inputIds]);
  return gradients;
}
