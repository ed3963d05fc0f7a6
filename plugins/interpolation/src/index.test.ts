import { momentPolicies, planWidth, stream, type WidthOperator } from "@espalier/core";
import {
  createStrategy,
  describeExpander,
  describeLayerMapping,
  describePlugin,
  residualFamily,
} from "@espalier/plugin-kit";
import { describe, expect, it } from "vitest";
import plugin, { interpolatedLayers } from "./index.js";

describePlugin(plugin);
describeLayerMapping("interpolation", () => createStrategy(plugin, "layerMapping", "interpolation"));
for (const mode of ["nearest", "linear"] as const)
  for (const moments of momentPolicies)
    describeExpander(
      `interpolation, ${mode}, ${moments}`,
      () => createStrategy(plugin, "expander", "interpolation", { mode, moments }),
      { moments, mapping: interpolatedLayers },
    );

describe("moments beside a width operator", () => {
  const from = { depth: 2, hiddenSize: 8, attentionHeads: 2, intermediateSize: 16 };
  const to = { ...from, depth: 4, intermediateSize: 32 };
  const repeated = (source: number, target: number) => Array.from({ length: target }, (_, i) => i % source);
  // Like `fpi`: its own default is that of gradients.
  const operator: WidthOperator = {
    preserves: "function",
    plan: (before, after, family) =>
      planWidth({
        ...{ expander: "repeated", from: before, to: after, family, moments: "gradient" },
        units: {
          hidden: repeated(before.hiddenSize, after.hiddenSize),
          heads: () => repeated(before.attentionHeads, after.attentionHeads),
          intermediate: () => repeated(before.intermediateSize, after.intermediateSize),
        },
      }),
  };
  const firstMoments = (options: object, layer: number) => {
    const expander = createStrategy(plugin, "expander", "interpolation", options, {
      widthOperator: () => operator,
    });
    const { parameters } = expander.plan(from, to, residualFamily, stream(1));
    const names = residualFamily.layout(4).filter((place) => place.layer === layer);
    return [...new Set(names.map(({ name }) => parameters[name]!.firstMoment.kind))];
  };

  it("are reset in every layer where that was given", () => {
    for (const layer of [0, 1, 2, 3])
      expect(firstMoments({ width: "repeated", moments: "reset" }, layer)).toEqual(["zeros"]);
  });

  it("are the operator's own where nothing was given, or where it was given its own", () => {
    expect(firstMoments({ width: "repeated" }, 0)).toEqual(["sum"]);
    const own = { use: "repeated", moments: "gradient" };
    expect(firstMoments({ width: own, moments: "reset" }, 0)).toEqual(["sum"]);
    expect(firstMoments({ width: own, moments: "reset" }, 1)).toEqual(["zeros"]);
  });

  it("are in the options where they were given, or no width operator was", () => {
    const schema = plugin.strategies.find(({ kind }) => kind === "expander")!.options;
    expect(schema.parse({})).toEqual({ mode: "nearest", moments: "carry" });
    expect(schema.parse({ width: "fpi" })).toEqual({ mode: "nearest", width: "fpi" });
    expect(schema.parse({ width: "fpi", moments: "carry" })).toMatchObject({ moments: "carry" });
  });
});
