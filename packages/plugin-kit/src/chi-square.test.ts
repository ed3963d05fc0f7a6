import { stream } from "@espalier/core";
import { describe, expect, it } from "vitest";
import { chiSquare, chiSquareLimit } from "./chi-square.js";

const dice = new Map([1, 2, 3, 4, 5, 6].map((side) => [side, 1 / 6]));

describe("chiSquare", () => {
  it("is Pearson's statistic", () => {
    const counts = new Map([
      [1, 5],
      [2, 8],
      [3, 9],
      [4, 8],
      [5, 10],
      [6, 20],
    ]);
    const { statistic, degreesOfFreedom } = chiSquare(counts, dice);
    expect(statistic).toBeCloseTo(13.4, 12);
    expect(degreesOfFreedom).toBe(5);
  });

  it("pools cells in which fewer than five are expected", () => {
    const rare = new Map([
      [1, 0.94],
      [2, 0.03],
      [3, 0.02],
      [4, 0.01],
    ]);
    const { statistic, degreesOfFreedom } = chiSquare(
      new Map([
        [1, 94],
        [2, 6],
      ]),
      rare,
    );
    expect(degreesOfFreedom).toBe(1);
    expect(statistic).toBeCloseTo(0, 12);
    expect(chiSquare(new Map([[1, 10]]), new Map([[1, 1]]))).toEqual({ statistic: 0, degreesOfFreedom: 0 });
  });

  it("is infinite where something was drawn that cannot be", () => {
    expect(chiSquare(new Map([[7, 1]]), dice).statistic).toBe(Number.POSITIVE_INFINITY);
    expect(
      chiSquare(
        new Map([[2, 1]]),
        new Map([
          [1, 1],
          [2, 0],
        ]),
      ).statistic,
    ).toBe(Number.POSITIVE_INFINITY);
  });

  it("stays below its limit for what it describes, and passes it for what it does not", () => {
    const random = stream(1);
    const counts = new Map<number, number>();
    const loaded = new Map<number, number>();
    for (let throwing = 0; throwing < 6000; throwing++) {
      const side = 1 + random.integer(6, throwing);
      counts.set(side, (counts.get(side) ?? 0) + 1);
      const other = side === 1 && throwing % 3 === 0 ? 6 : side;
      loaded.set(other, (loaded.get(other) ?? 0) + 1);
    }
    expect(chiSquare(counts, dice).statistic).toBeLessThan(chiSquareLimit(5));
    expect(chiSquare(loaded, dice).statistic).toBeGreaterThan(chiSquareLimit(5));
  });
});

describe("chiSquareLimit", () => {
  // Quantiles at 1 − 1e-5 of the χ² distribution, from the incomplete gamma function.
  it.each([
    [1, 19.511],
    [5, 30.856],
    [11, 43.206],
    [30, 75.023],
  ])("is a little above the quantile for %i degrees of freedom", (degreesOfFreedom, limit) => {
    const excess = chiSquareLimit(degreesOfFreedom) / limit - 1;
    expect(excess).toBeGreaterThan(0);
    expect(excess).toBeLessThan(degreesOfFreedom === 1 ? 0.12 : 0.04);
  });
});
