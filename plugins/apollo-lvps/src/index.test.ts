import { UsageError } from "@espalier/core";
import { createStrategy, describePlugin, describeSampler, shapeOfDepth } from "@espalier/plugin-kit";
import { describe, expect, it } from "vitest";
import plugin from "./index.js";

describePlugin(plugin, { examples: { "sampler fixed": { depth: 5 } } });
for (const name of ["lvps", "uniform", "sigmoid", "target", "unique"])
  describeSampler(name, () => createStrategy(plugin, "sampler", name));
describeSampler("lvps with other constants", () =>
  createStrategy(plugin, "sampler", "lvps", { end: 0.9, offset: 0.2, xMin: 0.01 }),
);
describeSampler("sigmoid with other constants", () =>
  createStrategy(plugin, "sampler", "sigmoid", {
    end: 0.8,
    offset: 0.1,
    xMin: 0.1,
    steepness: 5,
    middle: 0.3,
  }),
);
describeSampler("fixed", () => createStrategy(plugin, "sampler", "fixed", { depth: 5 }), {
  depths: [
    [1, 12],
    [5, 12],
    [6, 12],
    [12, 12],
  ],
});

describe("options of the samplers", () => {
  it("refuse a curve that does not fall", () => {
    expect(() => createStrategy(plugin, "sampler", "lvps", { end: 1.5 })).toThrow("the curve must fall");
    expect(() => createStrategy(plugin, "sampler", "sigmoid", { offset: -0.5 })).toThrow(
      "the curve must fall",
    );
    expect(() => createStrategy(plugin, "sampler", "lvps", { end: 0 })).toThrow();
    expect(() => createStrategy(plugin, "sampler", "lvps", { xMin: 1 })).toThrow();
  });

  it("refuse a fixed depth beyond the target, naming the key", () => {
    const create = () =>
      createStrategy(plugin, "sampler", "fixed", { depth: 13 }, { target: shapeOfDepth(12) });
    expect(create).toThrow(UsageError);
    expect(create).toThrow("growth.sampler.depth (13) is deeper than the target depth (model.depth = 12)");
  });
});
