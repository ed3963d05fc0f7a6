import { describe, expect, it } from "vitest";
import { blendedLayers, interpolatedLayers } from "./interpolation.js";

describe("interpolatedLayers", () => {
  it.each([
    [1, 3, [0, 0, 0]],
    [3, 6, [0, 0, 1, 1, 2, 2]],
    [3, 7, [0, 0, 0, 1, 1, 2, 2]],
    [3, 8, [0, 0, 0, 1, 1, 1, 2, 2]],
    [4, 6, [0, 0, 1, 2, 2, 3]],
    [6, 8, [0, 0, 1, 2, 3, 3, 4, 5]],
    [6, 9, [0, 0, 1, 2, 2, 3, 4, 4, 5]],
    [5, 12, [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4]],
    [3, 12, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]],
    [6, 12, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]],
  ])("maps %i layers to %i as the paper does", (unique, depth, map) => {
    expect(interpolatedLayers(unique, depth)).toEqual(map);
  });

  it("repeats each of 12 layers for 24", () => {
    expect(interpolatedLayers(12, 24)).toEqual(Array.from({ length: 24 }, (_, layer) => layer >> 1));
  });

  it("is exact where int(i/(t/s)) in floating point is not", () => {
    const floating = (i: number, s: number, t: number): number => Math.trunc(i / (t / s));
    expect([floating(9, 14, 18), floating(35, 18, 42)]).toEqual([6, 14]);
    expect(interpolatedLayers(14, 18)[9]).toBe(7);
    expect(interpolatedLayers(18, 42)[35]).toBe(15);
    let differing = 0;
    let wrong = 0;
    for (let s = 1; s <= 48; s++)
      for (let t = s; t <= 96; t++) {
        const map = interpolatedLayers(s, t);
        wrong += map.filter((layer, i) => BigInt(layer) !== (BigInt(i) * BigInt(s)) / BigInt(t)).length;
        if (map.some((layer, i) => layer !== floating(i, s, t))) differing++;
      }
    expect(wrong).toBe(0);
    expect(differing).toBe(53);
  });

  it("composes where depths divide: floor(floor(i·U'/d)·U/U') = floor(i·U/d) for every d ≥ U'", () => {
    const broken: string[] = [];
    let compared = 0;
    for (let between = 1; between <= 24; between++)
      for (let unique = 1; unique <= between; unique++) {
        if (between % unique !== 0) continue;
        const grown = interpolatedLayers(unique, between);
        for (let depth = between; depth <= 96; depth++) {
          const direct = interpolatedLayers(unique, depth);
          const through = interpolatedLayers(between, depth).map((layer) => grown[layer]);
          compared += depth;
          if (through.some((layer, i) => layer !== direct[i]))
            broken.push(`${unique}→${between} at ${depth}`);
        }
      }
    expect(broken).toEqual([]);
    expect(compared).toBeGreaterThan(300_000);
  });

  it("composes over whole chains of stages up to 24", () => {
    const broken: string[] = [];
    const extend = (chain: readonly number[]): void => {
      const last = chain.at(-1)!;
      for (let next = 2 * last; next <= 24; next += last) {
        const longer = [...chain, next];
        for (let depth = next; depth <= 48; depth++) {
          // Walking back through all growths ends at the layer that sharing from the first stage uses.
          const direct = interpolatedLayers(chain[0]!, depth);
          let origins = interpolatedLayers(next, depth);
          for (let stage = longer.length - 1; stage > 0; stage--) {
            const growth = interpolatedLayers(longer[stage - 1]!, longer[stage]!);
            origins = origins.map((layer) => growth[layer]!);
          }
          if (origins.some((layer, i) => layer !== direct[i])) broken.push(`${longer.join("→")} at ${depth}`);
        }
        extend(longer);
      }
    };
    for (let first = 1; first <= 12; first++) extend([first]);
    expect(broken).toEqual([]);
  });

  it("does not compose where they do not: 4 → 6 → 12", () => {
    const grown = interpolatedLayers(4, 6);
    expect(interpolatedLayers(6, 12).map((layer) => grown[layer])).toEqual([
      0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3,
    ]);
    expect(interpolatedLayers(4, 12)).toEqual([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
  });

  it("refuses what is no number of layers", () => {
    for (const [unique, depth] of [
      [0, 3],
      [1.5, 3],
      [1, 0],
      [1, Number.NaN],
    ] as const)
      expect(() => interpolatedLayers(unique, depth)).toThrow(RangeError);
  });
});

describe("blendedLayers", () => {
  it("keeps the first and the last layer and blends between", () => {
    expect(blendedLayers(2, 4)).toEqual([
      [[0, 1]],
      [
        [0, 2 / 3],
        [1, 1 / 3],
      ],
      [
        [0, 1 / 3],
        [1, 2 / 3],
      ],
      [[1, 1]],
    ]);
    expect(blendedLayers(3, 5)).toEqual([
      [[0, 1]],
      [
        [0, 0.5],
        [1, 0.5],
      ],
      [[1, 1]],
      [
        [1, 0.5],
        [2, 0.5],
      ],
      [[2, 1]],
    ]);
  });

  it("weighs neighbours by position, for every growth", () => {
    for (let source = 1; source <= 16; source++)
      for (let target = source; target <= 32; target++) {
        const blends = blendedLayers(source, target);
        const sums = blends.map((blend) => blend.reduce((sum, [, weight]) => sum + weight, 0));
        const positions = blends.map((blend) =>
          blend.reduce((sum, [from, weight]) => sum + from * weight, 0),
        );
        const wanted = blends.map((_, layer) => (target === 1 ? 0 : (layer * (source - 1)) / (target - 1)));
        expect(Math.max(...sums.map((sum) => Math.abs(sum - 1)))).toBeLessThan(1e-14);
        expect(Math.max(...positions.map((at, layer) => Math.abs(at - wanted[layer]!)))).toBeLessThan(1e-12);
        expect(Math.min(...blends.flat().map(([, weight]) => weight))).toBeGreaterThan(0);
        expect(Math.max(...blends.flat().map(([from]) => from))).toBe(source - 1);
      }
  });

  it("copies where nothing lies between", () => {
    expect(blendedLayers(1, 3)).toEqual([[[0, 1]], [[0, 1]], [[0, 1]]]);
    expect(blendedLayers(4, 4)).toEqual([[[0, 1]], [[1, 1]], [[2, 1]], [[3, 1]]]);
    expect(blendedLayers(1, 1)).toEqual([[[0, 1]]]);
  });
});
