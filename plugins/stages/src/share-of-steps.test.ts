import { describe, expect, it } from "vitest";
import { shareOfSteps } from "./share-of-steps.js";

describe("shareOfSteps", () => {
  it("counts in the digits that were written, not in their binary neighbours", () => {
    expect(Math.floor(0.29 * 100)).toBe(28);
    expect(shareOfSteps(0.29, 100)).toBe(29);
    for (let hundredths = 0; hundredths <= 100; hundredths++)
      expect(shareOfSteps(hundredths / 100, 100)).toBe(hundredths);
  });

  it("rounds down", () => {
    expect(shareOfSteps(0.125, 2500)).toBe(312);
    expect(shareOfSteps(0.999999, 3)).toBe(2);
    expect(shareOfSteps(1 / 3, 3)).toBe(0);
    expect(shareOfSteps(2.5e-7, 4_000_000)).toBe(1);
    expect(shareOfSteps(2.5e-7, 3_999_999)).toBe(0);
    expect(shareOfSteps(1, 7)).toBe(7);
    expect(shareOfSteps(0, 7)).toBe(0);
  });

  it("refuses what is no share or no number of steps", () => {
    for (const share of [-0.1, 1.1, Number.NaN]) expect(() => shareOfSteps(share, 10)).toThrow(RangeError);
    for (const steps of [-1, 1.5, Number.NaN]) expect(() => shareOfSteps(0.5, steps)).toThrow(RangeError);
  });
});
