import { composeGrowthMaps, type ModelShape, planWidth, stream, UsageError } from "@espalier/core";
import { advancedKnowledge, directCopy, fpi } from "@espalier/plugin-bert2bert";
import { interpolationExpander } from "@espalier/plugin-interpolation";
import { configOfShape, residualFamily } from "@espalier/plugin-kit";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { growWeights } from "./apply-growth-map.js";

beforeAll(async () => {
  await tf.setBackend("cpu");
});

describe("FPI and AKI in the paper's small example (rows are inputs, y = xW)", () => {
  // W = [[1, 2], [3, 4]], the next layer's W2 = [[10, 20], [30, 40]]; g_in = (0, 1, 0), g_out = (0, 1, 1).
  const from: ModelShape = { depth: 2, hiddenSize: 2, attentionHeads: 2, intermediateSize: 2 };
  const to: ModelShape = { ...from, hiddenSize: 3, attentionHeads: 3, intermediateSize: 3 };
  const units = { hidden: [0, 1, 0], heads: () => [0, 1, 0], intermediate: () => [0, 1, 1] };

  function grown(source?: Parameters<typeof planWidth>[0]["source"]): number[][] {
    const map = planWidth({
      expander: "example",
      from,
      to,
      family: residualFamily,
      moments: "reset",
      units,
      ...(source ? { source } : {}),
    });
    const weights = new Map(
      residualFamily
        .parameters(configOfShape(from))
        .map((spec) => [spec.name, tf.zeros([...spec.shape]) as tf.Tensor]),
    );
    weights.set(
      "layers.0.up.weight",
      tf.tensor2d([
        [1, 2],
        [3, 4],
      ]),
    );
    weights.set(
      "layers.1.up.weight",
      tf.tensor2d([
        [10, 20],
        [30, 40],
      ]),
    );
    const made = growWeights(map, weights, {
      config: configOfShape(to),
      family: residualFamily,
      random: stream(1),
    });
    return (made.get("layers.0.up.weight") as tf.Tensor2D).arraySync();
  }
  const product = (x: number[], matrix: number[][]): number[] =>
    matrix[0]!.map((_, column) => x.reduce((sum, value, row) => sum + value * matrix[row]![column]!, 0));

  it("FPI divides what the copies feed, and repeats what they give out", () => {
    const widened = grown();
    expect(widened).toEqual([
      [0.5, 1, 1],
      [3, 4, 4],
      [0.5, 1, 1],
    ]);
    expect(
      product(
        [5, 7],
        [
          [1, 2],
          [3, 4],
        ],
      ),
    ).toEqual([26, 38]);
    expect(product([5, 7, 5], widened)).toEqual([26, 38, 38]);
  });

  it("AKI takes the new output from the next layer", () => {
    const widened = grown(advancedKnowledge(from, to, residualFamily));
    expect(widened).toEqual([
      [0.5, 1, 10],
      [3, 4, 40],
      [0.5, 1, 10],
    ]);
    expect(product([5, 7, 5], widened)).toEqual([26, 38, 380]);
  });
});

describe("a growth map in width composed with one in depth", () => {
  const from: ModelShape = { depth: 2, hiddenSize: 8, attentionHeads: 2, intermediateSize: 16 };
  const to: ModelShape = { depth: 3, hiddenSize: 16, attentionHeads: 4, intermediateSize: 16 };
  const linear = (width: ReturnType<typeof fpi>) =>
    interpolationExpander({ mode: "linear", moments: "carry", width }).plan(
      from,
      to,
      residualFamily,
      stream(2),
    );

  it("makes what the two make one after the other", () => {
    const width = fpi({ selection: "balanced", moments: "carry" });
    const between = { ...to, depth: 2 };
    const first = width.plan(from, between, residualFamily, stream(2));
    const second = interpolationExpander({ mode: "linear", moments: "carry" }).plan(
      between,
      to,
      residualFamily,
      stream(2),
    );
    const grow = (map: typeof first, weights: Map<string, tf.Tensor>) =>
      growWeights(map, weights, {
        config: configOfShape(map.to),
        family: residualFamily,
        random: stream(1),
      });
    const source = new Map(
      residualFamily
        .parameters(configOfShape(from))
        .map((spec) => [spec.name, tf.randomNormal([...spec.shape], 0, 1, "float32", 7) as tf.Tensor]),
    );
    const composed = grow(composeGrowthMaps(first, second), source);
    const after = grow(second, grow(first, source));
    expect(linear(width).parameters).toEqual(composeGrowthMaps(first, second).parameters);
    for (const [name, tensor] of composed) {
      const furthest = tf.max(tf.abs(tf.sub(tensor, after.get(name)!))).dataSync()[0]!;
      expect(furthest, name).toBeLessThan(1e-6);
    }
  });

  it("blends no layer that the width operator initialises anew", () => {
    expect(() => linear(directCopy())).toThrow(UsageError);
    expect(() => linear(directCopy())).toThrow("freshly initialised by the width operator");
  });
});
