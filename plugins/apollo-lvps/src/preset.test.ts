import { describe, expect, it } from "vitest";
import { apolloStages } from "./preset.js";

describe("apolloStages", () => {
  it.each([
    [12, [1, 3, 6, 12], [0, 0.05, 0.1, 0.25]],
    [24, [2, 6, 12, 24], [0, 0.05, 0.1, 0.25]],
    [48, [4, 12, 24, 48], [0, 0.05, 0.1, 0.25]],
    [16, [1, 4, 8, 16], [0, 0.05, 0.1, 0.25]],
    [8, [1, 2, 4, 8], [0, 0.05, 0.1, 0.25]],
    [6, [1, 3, 6], [0, 0.1, 0.25]],
    [4, [1, 2, 4], [0, 0.1, 0.25]],
    [7, [1, 3, 7], [0, 0.1, 0.25]],
    [9, [1, 3, 9], [0, 0.1, 0.25]],
    [28, [1, 7, 14, 28], [0, 0.05, 0.1, 0.25]],
    [2, [1, 2], [0, 0.25]],
    [1, [1], [0]],
  ])("for %i layers", (target, depths, at) => {
    expect(apolloStages(target)).toEqual({ depths, at });
  });

  it("ascends from 0 to every target", () => {
    for (let target = 1; target <= 96; target++) {
      const { depths, at } = apolloStages(target);
      expect(at).toHaveLength(depths.length);
      expect([at[0], depths.at(-1)]).toEqual([0, target]);
      expect(depths).toEqual([...new Set(depths)].sort((a, b) => a - b));
      expect(at).toEqual([...new Set(at)].sort((a, b) => a - b));
      expect(depths[0]).toBeGreaterThanOrEqual(1);
    }
  });

  it("divides at every growth where the target is a multiple of twelve, and elsewhere up to 12 where it is no prime", () => {
    for (const target of [4, 6, 8, 9, 10, 12, 24, 36, 48, 60, 72, 84, 96]) {
      const { depths } = apolloStages(target);
      const rests = depths.slice(1).map((depth, stage) => depth % depths[stage]!);
      expect(rests).toEqual(rests.map(() => 0));
    }
  });
});
