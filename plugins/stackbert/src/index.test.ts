import { momentPolicies, stream } from "@espalier/core";
import {
  createStrategy,
  describeExpander,
  describeLayerMapping,
  describePlugin,
  residualFamily,
  shapeOfDepth,
} from "@espalier/plugin-kit";
import { describe, expect, it } from "vitest";
import plugin, { stackedLayers } from "./index.js";

describePlugin(plugin);
describeLayerMapping("stacking", () => createStrategy(plugin, "layerMapping", "stacking"));
for (const moments of momentPolicies)
  describeExpander(
    `stacking, ${moments}`,
    () => createStrategy(plugin, "expander", "stacking", { moments }),
    { moments, mapping: stackedLayers },
  );
describeExpander(
  "stacking, reset-all",
  () => createStrategy(plugin, "expander", "stacking", { moments: "reset-all" }),
  {
    mapping: stackedLayers,
    skip: { "growth to the same shape changes nothing": "the policy empties all moments at every growth" },
  },
);

describe("moments of the expander stacking", () => {
  const plan = (options: object) =>
    createStrategy(plugin, "expander", "stacking", options).plan(
      shapeOfDepth(3),
      shapeOfDepth(6),
      residualFamily,
      stream(1),
    ).parameters;

  it("are emptied for the layers that growth makes, by default", () => {
    const parameters = plan({});
    for (const place of residualFamily.layout(6))
      expect(parameters[place.name]!.firstMoment.kind).toBe((place.layer ?? 0) < 3 ? "sum" : "zeros");
  });

  it("are emptied everywhere by reset-all", () => {
    for (const growth of Object.values(plan({ moments: "reset-all" })))
      expect([growth.firstMoment, growth.secondMoment, growth.stepCount]).toEqual([
        { kind: "zeros" },
        { kind: "zeros" },
        { kind: "zero" },
      ]);
  });
});
