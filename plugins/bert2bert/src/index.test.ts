import {
  deserializeGrowthMap,
  hashGrowthMap,
  type JsonObject,
  serializeGrowthMap,
  stream,
  UsageError,
  widthMoments,
} from "@espalier/core";
import {
  createStrategy,
  describeExpander,
  describeLayerMapping,
  describePlugin,
  describeSampler,
  describeSchedule,
  describeWidthOperator,
  residualFamily,
  shapeOfDepth,
  testServices,
  widthGrowths,
} from "@espalier/plugin-kit";
import { describe, expect, it } from "vitest";
import plugin, { bottomLayers } from "./index.js";

describePlugin(plugin);
describeLayerMapping("bottom", () => createStrategy(plugin, "layerMapping", "bottom"));
describeSampler("two-stage", () => createStrategy(plugin, "sampler", "two-stage", { subModelLayers: 1 }), {
  depths: [
    [12, 12],
    [7, 7],
    [6, 12],
    [1, 1],
  ],
  fewerLayers: true,
});
describeSchedule("from-source", () => createStrategy(plugin, "schedule", "from-source"));
for (const moments of widthMoments)
  describeWidthOperator(
    `fpi, ${moments}`,
    () => createStrategy(plugin, "widthOperator", "fpi", { moments }),
    moments === "gradient" ? {} : { moments },
  );
describeWidthOperator("fpi, uniform", () =>
  createStrategy(plugin, "widthOperator", "fpi", { selection: "uniform" }),
);
describeWidthOperator("aki", () => createStrategy(plugin, "widthOperator", "aki"), { moments: "reset" });
describeWidthOperator("aki, uniform, gradient", () =>
  createStrategy(plugin, "widthOperator", "aki", { selection: "uniform", moments: "gradient" }),
);
describeWidthOperator("direct-copy", () => createStrategy(plugin, "widthOperator", "direct-copy"));

const deeper = { depth: 4, hiddenSize: 16, attentionHeads: 4, intermediateSize: 32 };
for (const name of ["fpi", "aki", "direct-copy"])
  describeExpander(name, () => createStrategy(plugin, "expander", name), {
    growths: [
      ...widthGrowths.whole,
      ...widthGrowths.uneven,
      { from: { depth: 2 }, to: deeper },
      { from: { depth: 3 }, to: { depth: 7 } },
    ],
    preserved: widthGrowths.whole,
    mapping: bottomLayers,
    tolerance: 1e-5,
    ...(name === "fpi"
      ? {
          skip: {
            "the function is preserved as claimed":
              "at twice the depth layers run as `bottom` stacks them; measured in width alone by describeWidthOperator",
          },
        }
      : {}),
  });

describe("the schedule from-source", () => {
  it("refuses a run without a source, naming the key", () => {
    const create = () => createStrategy(plugin, "schedule", "from-source", {}, { source: null });
    expect(create).toThrow(UsageError);
    expect(create).toThrow("needs a trained model to grow from");
  });
});

describe("reset moments of AKI", () => {
  it("leave nothing of a layer of which only the feed-forward part is widened", () => {
    const from = { depth: 2, hiddenSize: 8, attentionHeads: 2, intermediateSize: 16 };
    const to = { ...from, intermediateSize: 32 };
    const operator = createStrategy(plugin, "widthOperator", "aki", { moments: "reset" });
    const { parameters } = operator.plan(from, to, residualFamily, stream(3));
    for (const { name, layer } of residualFamily.layout(2)) {
      const { firstMoment, secondMoment, stepCount } = parameters[name]!;
      const expected = layer === null ? ["sum", "sum", "from"] : ["zeros", "zeros", "zero"];
      expect([firstMoment.kind, secondMoment.kind, stepCount.kind], name).toEqual(expected);
    }
  });
});

describe("a growth map in width", () => {
  const from = { depth: 2, hiddenSize: 8, attentionHeads: 2, intermediateSize: 16 };
  it.each(["fpi", "aki", "direct-copy"])("of %s is the same after it was written and read", (name) => {
    const map = createStrategy(plugin, "expander", name, {}, testServices()).plan(
      from,
      { ...deeper, hiddenSize: 20, attentionHeads: 5 },
      residualFamily,
      stream(3),
    );
    const text = JSON.stringify(serializeGrowthMap(map));
    const read = deserializeGrowthMap(JSON.parse(text) as JsonObject);
    expect(hashGrowthMap(read)).toBe(hashGrowthMap(map));
    expect(text.length).toBeLessThan(0.8 * JSON.stringify(map).length);
  });
});

describe("presets", () => {
  it("say what the paper says, for a target of that depth", () => {
    const growth = (name: string, depth: number) =>
      plugin.presets.find((preset) => preset.name === name)!.growth(shapeOfDepth(depth));
    expect(growth("bert2bert", 12)).toEqual({
      schedule: { use: "from-source" },
      sampler: { use: "two-stage", subModelLayers: 3, firstStage: 0.125 },
      expander: { use: "aki", selection: "uniform" },
      sharing: "bottom",
    });
    expect(growth("bert2bert", 2)).toMatchObject({ sampler: { subModelLayers: 2 } });
    expect(growth("bert2bert-fpi", 12)).toMatchObject({ expander: { use: "fpi", selection: "balanced" } });
  });
});
