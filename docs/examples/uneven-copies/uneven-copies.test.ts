import { stream } from "@espalier/core";
import { createStrategy, describePlugin, describeWidthOperator, residualFamily } from "@espalier/plugin-kit";
import { expect, it } from "vitest";
import plugin from "./index.js";
import { shares } from "./uneven-copies.js";

describePlugin(plugin);
describeWidthOperator("uneven-copies", () => createStrategy(plugin, "widthOperator", "uneven-copies"));

it("shares what a unit feeds among its copies", () => {
  expect(shares([0, 1, 0, 1, 0])).toEqual([1 / 6, 1 / 3, 1 / 3, 2 / 3, 1 / 2]);
});

it("gives a matrix shares of its input, and its moments shares of what comes back", () => {
  const from = { depth: 1, hiddenSize: 4, attentionHeads: 1, intermediateSize: 2 };
  const operator = createStrategy(plugin, "widthOperator", "uneven-copies");
  const { parameters } = operator.plan(from, { ...from, intermediateSize: 4 }, residualFamily, stream(1));
  const unscaled = { kind: "index", indices: [0, 1, 0, 1] };
  const scaled = { ...unscaled, scales: [1 / 3, 1 / 3, 2 / 3, 2 / 3] };
  for (const { name, axes, inputAxis } of residualFamily.layout(1)) {
    const axis = axes.indexOf("intermediate");
    if (axis < 0) continue;
    const [weight, moment] = axis === inputAxis ? [scaled, unscaled] : [unscaled, scaled];
    const at = (map: object) => ({
      terms: [{ axes: axes.map((_, other) => (other === axis ? map : null)) }],
    });
    expect(parameters[name]!.weight, name).toMatchObject(at(weight));
    expect(parameters[name]!.firstMoment, name).toMatchObject(at(moment));
  }
});
