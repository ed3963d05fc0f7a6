import { stream } from "@espalier/core";
import { chiSquare, chiSquareLimit } from "@espalier/plugin-kit";
import { describe, expect, it } from "vitest";
import { depthDistribution, depthOfDraw, drawOfX } from "./depth-law.js";
import { lvpsDefaults, lvpsLaw, lvpsTail } from "./lvps.js";
import { sigmoidDefaults, sigmoidLaw, uniformLaw } from "./rivals.js";

const law = lvpsLaw();

function mean(distribution: ReadonlyMap<number, number>): number {
  return [...distribution].reduce((sum, [depth, probability]) => sum + depth * probability, 0);
}

/** y of the released code at x, before clamping and truncating. */
function hyperbola(x: number, uniqueLayers: number, maxDepth: number): number {
  const ratio = maxDepth / uniqueLayers;
  const start = ratio + 0.4;
  const end = 0.6;
  const n = (start * 1e-6 - end) / (end - start);
  return (end * (n + 1)) / (x + n);
}

describe("the exact distribution of LVPS, M = 12", () => {
  it("at one unique layer", () => {
    const exact = [
      217 / 295,
      31 / 295,
      31 / 590,
      93 / 2950,
      31 / 1475,
      31 / 2065,
      93 / 8260,
      31 / 3540,
      31 / 4425,
      93 / 16225,
      31 / 6490,
      1 / 590,
    ];
    const distribution = depthDistribution(law, 1, 12);
    expect([...distribution.keys()]).toEqual(exact.map((_, index) => index + 1));
    for (const [index, probability] of exact.entries())
      expect(distribution.get(index + 1)).toBeCloseTo(probability, 14);
    expect(mean(distribution)).toBeCloseTo(2407931 / 1362900, 13);
  });

  it("at three unique layers", () => {
    const exact = [
      121 / 190,
      99 / 950,
      33 / 475,
      33 / 665,
      99 / 2660,
      11 / 380,
      11 / 475,
      9 / 475,
      3 / 190,
      3 / 190,
    ];
    const distribution = depthDistribution(law, 3, 12);
    expect([...distribution.keys()]).toEqual(exact.map((_, index) => index + 3));
    for (const [index, probability] of exact.entries())
      expect(distribution.get(index + 3)).toBeCloseTo(probability, 14);
    expect(mean(distribution)).toBeCloseTo(56201 / 13300, 13);
  });

  it("at twelve unique layers", () => {
    expect(depthDistribution(law, 12, 12)).toEqual(new Map([[12, 1]]));
  });

  it("does not depend on xMin", () => {
    const other = lvpsLaw({ ...lvpsDefaults, xMin: 0.25 });
    expect(depthDistribution(other, 1, 12)).toEqual(depthDistribution(law, 1, 12));
  });
});

describe("samples of LVPS", () => {
  it("replay the released log of the authors", () => {
    const xs = [
      [0.639427159031, 0.025011730212, 0.27503004334, 0.223211514938],
      [0.736471477693, 0.676699810723, 0.892179675525, 0.086939745691],
      [
        0.421922397763, 0.029798189641, 0.218638756166, 0.505355782748, 0.026536943148, 0.198838451849,
        0.649884787895, 0.544941935662, 0.2204414016, 0.58926609461, 0.809430647247, 0.006499753179,
      ],
    ];
    const drawn = [1, 3, 6].map((unique, stage) =>
      xs[stage]!.map((x) => depthOfDraw(drawOfX(x, lvpsDefaults.xMin), law, unique, 12)),
    );
    expect(drawn).toEqual([
      [1, 8, 1, 2],
      [3, 3, 3, 8],
      [6, 12, 8, 6, 12, 9, 6, 6, 8, 6, 6, 12],
    ]);
    for (let draw = 0; draw < 1; draw += 0.05) expect(depthOfDraw(draw, law, 12, 12)).toBe(12);
  });

  it("lie on the hyperbola of the released code, truncated, and at M where truncation misses it", () => {
    const different: string[] = [];
    for (let max = 1; max <= 24; max++)
      for (let unique = 1; unique <= max; unique++)
        for (let index = 0; index < 40; index++) {
          // Steps of the golden ratio: none of them falls on a boundary between two depths.
          const x = 1e-6 + (((index + 0.5) * 0.6180339887498949) % 1) * (1 - 1e-6);
          const y = Math.min(Math.max(hyperbola(x, unique, max), 1), max / unique);
          const depth = depthOfDraw(drawOfX(x, 1e-6), law, unique, max);
          // The guard makes the truncation exact: y·U is a whole number wherever y was clamped.
          if (depth !== Math.floor(y * unique + 1e-9)) different.push(`U=${unique} M=${max} x=${x}`);
        }
    expect(different).toEqual([]);
    const missed = 15 / 11;
    expect(Math.trunc(missed * 11)).toBe(14);
    expect(depthOfDraw(0, law, 11, 15)).toBe(15);
  });

  it("follow the distribution", () => {
    for (const unique of [1, 3, 6]) {
      const random = stream(42).fork("sampler").fork(unique);
      const counts = new Map<number, number>();
      for (let draw = 0; draw < 100_000; draw++) {
        const depth = depthOfDraw(random.uniform(draw), law, unique, 12);
        counts.set(depth, (counts.get(depth) ?? 0) + 1);
      }
      const { statistic, degreesOfFreedom } = chiSquare(counts, depthDistribution(law, unique, 12));
      expect(degreesOfFreedom).toBe(12 - unique);
      expect(statistic).toBeLessThan(chiSquareLimit(degreesOfFreedom));
    }
  });

  it("never leave U..M, for any constants", () => {
    for (const constants of [
      lvpsDefaults,
      { end: 2, offset: 3, xMin: 0.1 },
      { end: 0.1, offset: -0.5, xMin: 1e-6 },
    ])
      for (let max = 1; max <= 13; max++)
        for (let unique = 1; unique <= max; unique++) {
          const distribution = depthDistribution(lvpsLaw(constants), unique, max);
          expect([...distribution.values()].reduce((sum, probability) => sum + probability, 0)).toBeCloseTo(
            1,
            12,
          );
          for (const draw of [0, 0.3, 0.999999]) {
            const depth = depthOfDraw(draw, lvpsLaw(constants), unique, max);
            expect(distribution.get(depth)).toBeGreaterThan(0);
          }
        }
  });

  it("are as deep as k with the probability of the closed form", () => {
    expect(lvpsTail(1, 1, 12)).toBe(1);
    expect(lvpsTail(13, 1, 12)).toBe(0);
    expect(lvpsTail(12, 1, 12)).toBeCloseTo(1 / 590, 15);
    for (let k = 2; k <= 12; k++)
      expect(lvpsTail(k, 1, 12)).toBeCloseTo((1 / k - 1 / 12.4) / (1 / 0.6 - 1 / 12.4), 14);
  });
});

describe("the rivals", () => {
  it("uniform draws every depth alike", () => {
    const distribution = depthDistribution(uniformLaw, 3, 12);
    expect([...distribution.keys()]).toEqual([3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    for (const probability of distribution.values()) expect(probability).toBeCloseTo(0.1, 14);
    expect(depthDistribution(uniformLaw, 12, 12)).toEqual(new Map([[12, 1]]));
  });

  it("sigmoid draws along the curve of the released code", () => {
    const different: string[] = [];
    for (const [unique, max] of [
      [1, 12],
      [3, 12],
      [6, 12],
      [5, 7],
      [4, 4],
    ] as const)
      for (let index = 0; index < 2000; index++) {
        const x = 1e-6 + ((index + 0.5) / 2000) * (1 - 1e-6);
        const start = max / unique + 0.4;
        const curve = (start - 0.6) / (1 + Math.exp(20 * (x - 0.5))) + 0.6;
        const y = Math.min(Math.max(curve, 1), max / unique);
        const depth = depthOfDraw(drawOfX(x, sigmoidDefaults.xMin), sigmoidLaw(), unique, max);
        if (depth !== Math.floor(y * unique + 1e-9)) different.push(`U=${unique} M=${max} x=${x}`);
      }
    expect(different).toEqual([]);
  });

  it("sigmoid is symmetric about its middle", () => {
    const distribution = depthDistribution(sigmoidLaw(), 1, 12);
    // The curve is at half its height at x = 0.5: P(y ≥ 6.5) = 1/2, between the depths 6 and 7.
    const deep = [...distribution].filter(([depth]) => depth >= 7).reduce((sum, [, p]) => sum + p, 0);
    expect(deep).toBeGreaterThan(0.48);
    expect(deep).toBeLessThan(0.5);
    expect([...distribution.keys()]).toEqual(Array.from({ length: 12 }, (_, index) => index + 1));
  });
});
