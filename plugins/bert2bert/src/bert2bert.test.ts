import { copyCounts, type DepthInput, stream, UsageError } from "@espalier/core";
import { progressAt, shapeOfDepth } from "@espalier/plugin-kit";
import { describe, expect, it } from "vitest";
import { bottomLayers, stackedFromBottom } from "./depth.js";
import { subModels, twoStage } from "./two-stage.js";
import { selectUnits } from "./unit-selection.js";

describe("selectUnits", () => {
  it("keeps the source's units first, and copies each ⌊t/s⌋ or ⌈t/s⌉ times where it is balanced", () => {
    for (const [source, target] of [
      [512, 768],
      [8, 8],
      [8, 16],
      [5, 17],
      [1, 4],
    ] as const) {
      const units = selectUnits(source, target, "balanced", stream(3));
      expect(units.slice(0, source)).toEqual([...Array(source).keys()]);
      const counts = copyCounts(units, source);
      expect(Math.min(...counts)).toBe(Math.floor(target / source));
      expect(Math.max(...counts)).toBe(Math.ceil(target / source));
    }
  });

  it("draws every copy alike where it is uniform", () => {
    const units = selectUnits(4, 4004, "uniform", stream(3));
    expect(units.slice(0, 4)).toEqual([0, 1, 2, 3]);
    const counts = copyCounts(units.slice(4), 4);
    // Five standard deviations of a binomial draw of 4000 with p = 1/4.
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(5 * Math.sqrt(4000 * 0.1875));
    expect(selectUnits(4, 40, "uniform", stream(3))).not.toEqual(selectUnits(4, 40, "uniform", stream(4)));
  });
});

describe("depth", () => {
  it("stacks from the bottom, the rest from the top layers", () => {
    expect(stackedFromBottom(6, 9)).toEqual([0, 1, 2, 3, 4, 5, 3, 4, 5]);
    expect(stackedFromBottom(6, 12)).toEqual([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
    expect(bottomLayers(12, 3)).toEqual([0, 1, 2]);
    expect(bottomLayers(3, 7)).toEqual([0, 1, 2, 0, 1, 2, 2]);
  });
});

describe("two-stage training", () => {
  const input = (step: number): DepthInput => ({
    progress: progressAt(step, 80),
    current: shapeOfDepth(12),
    target: shapeOfDepth(12),
  });

  it("draws bottom sub-models and updates their top layers for the stated share, then trains the whole", () => {
    const sampler = twoStage({ subModelLayers: 3, firstStage: 0.125 }, 12);
    const random = stream(9);
    const seen = new Set<number>();
    for (let step = 0; step < 80; step++) {
      const [draw] = sampler.next(null, input(step), random.fork(step));
      if (step < 10) {
        seen.add(draw.executedLayers);
        expect(draw.update).toEqual({ topLayers: 3 });
      } else expect(draw).toEqual({ executedLayers: 12, update: "all" });
    }
    expect([...seen].every((depth) => [3, 6, 9, 12].includes(depth))).toBe(true);
    expect(seen.size).toBeGreaterThan(1);
    expect(sampler.distribution(null, input(0))).toEqual(
      new Map([3, 6, 9, 12].map((depth) => [depth, 0.25])),
    );
    expect(sampler.update?.(null, input(0), 6)).toEqual({ topLayers: 3 });
    expect(sampler.update?.(null, input(10), 12)).toBe("all");
  });

  it("ends its sub-models at the whole depth", () => {
    expect(subModels(3, 12)).toEqual([3, 6, 9, 12]);
    expect(subModels(3, 7)).toEqual([3, 6, 7]);
    expect(subModels(3, 2)).toEqual([2]);
  });

  it("refuses sub-models of more layers than there are", () => {
    expect(() => twoStage({ subModelLayers: 4, firstStage: 0.125 }, 3)).toThrow(UsageError);
  });
});
