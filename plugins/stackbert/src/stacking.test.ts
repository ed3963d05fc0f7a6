import { describe, expect, it } from "vitest";
import { doublingStages, stackedLayers } from "./stacking.js";

describe("stackedLayers", () => {
  it.each([
    [3, 6, [0, 1, 2, 0, 1, 2]],
    [3, 7, [0, 1, 2, 0, 1, 2, 2]],
    [3, 8, [0, 1, 2, 0, 1, 2, 1, 2]],
    [4, 6, [0, 1, 2, 3, 2, 3]],
    [6, 9, [0, 1, 2, 3, 4, 5, 3, 4, 5]],
    [1, 4, [0, 0, 0, 0]],
  ])("maps %i layers to %i", (unique, depth, map) => {
    expect(stackedLayers(unique, depth)).toEqual(map);
  });

  it("does not compose at every depth, unlike interpolation: growth by stacking changes outputs", () => {
    const broken = (unique: number, between: number, depths: number[]): number[] =>
      depths.filter((depth) => {
        const grown = stackedLayers(unique, between);
        const through = stackedLayers(between, depth).map((layer) => grown[layer]);
        return `${through}` !== `${stackedLayers(unique, depth)}`;
      });
    expect(broken(3, 6, [6, 7, 8, 9, 10, 11, 12])).toEqual([10, 11]);
    expect(broken(2, 4, [4, 5, 6, 7, 8, 9, 10, 11, 12])).toEqual([7, 11]);
    expect(broken(2, 6, [6, 7, 8, 9, 10, 11, 12])).toEqual([9, 11]);
  });

  it("refuses what is no number of layers", () => {
    expect(() => stackedLayers(0, 3)).toThrow(RangeError);
    expect(() => stackedLayers(2, 2.5)).toThrow(RangeError);
  });
});

describe("doublingStages", () => {
  it.each([
    [12, [3, 6, 12], [0, 0.125, 0.3]],
    [24, [6, 12, 24], [0, 0.125, 0.3]],
    [6, [2, 3, 6], [0, 0.125, 0.3]],
    [7, [2, 4, 7], [0, 0.125, 0.3]],
    [2, [1, 2], [0, 0.3]],
    [1, [1], [0]],
  ])("ends at %i", (target, depths, at) => {
    expect(doublingStages(target)).toEqual({ depths, at });
  });

  it("ascends to every target, at most doubling", () => {
    for (let target = 1; target <= 96; target++) {
      const { depths, at } = doublingStages(target);
      expect(at).toHaveLength(depths.length);
      expect(at[0]).toBe(0);
      expect(depths.at(-1)).toBe(target);
      for (let stage = 1; stage < depths.length; stage++) {
        expect(depths[stage]).toBeGreaterThan(depths[stage - 1]!);
        expect(depths[stage]).toBeLessThanOrEqual(2 * depths[stage - 1]!);
        expect(at[stage]).toBeGreaterThan(at[stage - 1]!);
      }
    }
  });
});
