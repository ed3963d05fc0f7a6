import { describe, expect, it } from "vitest";
import { keepMask } from "./dropout.js";

describe("the fallback's dropout mask", () => {
  it("is a pure function of length, rate and seed", () => {
    expect(keepMask(1000, 0.5, 3)).toEqual(keepMask(1000, 0.5, 3));
    expect(keepMask(1000, 0.5, 0xffffffff)).not.toEqual(keepMask(1000, 0.5, 3));
    expect(keepMask(2000, 0.5, 3).subarray(0, 1000)).toEqual(keepMask(1000, 0.5, 3));
  });

  it.each([0.1, 0.5, 0.9])("drops a share of %f, whatever the seed", (rate) => {
    for (const seed of [0, 1, 2, 0x80000000, 0xffffffff]) {
      const kept = keepMask(100_000, rate, seed).reduce((sum, keep) => sum + keep, 0) / 100_000;
      expect(Math.abs(kept - (1 - rate))).toBeLessThan(5 * Math.sqrt((rate * (1 - rate)) / 100_000));
    }
  });

  it("has no correlation between neighbours, nor between neighbouring seeds", () => {
    const length = 100_000;
    const [mask, next] = [keepMask(length, 0.5, 41), keepMask(length, 0.5, 42)];
    for (const lag of [1, 2, 3, 4, 8, 64, 128, 256, 1024]) {
      let agreeing = 0;
      for (let index = lag; index < length; index++) if (mask[index] === mask[index - lag]) agreeing++;
      expect(Math.abs(agreeing / (length - lag) - 0.5)).toBeLessThan(0.01);
    }
    const equal = mask.reduce((sum, keep, index) => sum + (keep === next[index] ? 1 : 0), 0);
    expect(Math.abs(equal / length - 0.5)).toBeLessThan(0.01);
  });
});
