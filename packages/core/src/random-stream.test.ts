import { describe, expect, it } from "vitest";
import { philox4x32, stream } from "./random-stream.js";

describe("philox4x32", () => {
  // Known answers of Random123 1.x, `kat_vectors`, philox4x32 with 10 rounds.
  it.each([
    {
      what: "zeros",
      counter: [0, 0, 0, 0],
      key: [0, 0],
      answer: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    },
    {
      what: "ones",
      counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      key: [0xffffffff, 0xffffffff],
      answer: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    },
    {
      what: "the digits of pi",
      counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      key: [0xa4093822, 0x299f31d0],
      answer: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    },
  ] as const)("gives the published answer for $what", ({ counter, key, answer }) => {
    expect(philox4x32(counter, key[0], key[1])).toEqual([...answer]);
  });

  it("multiplies 32-bit words exactly", () => {
    // One block against the definition in 64-bit arithmetic, on words that carry in every partial product.
    const reference = (words: readonly bigint[], keys: readonly bigint[]): number[] => {
      const mask = 0xffffffffn;
      let [c0, c1, c2, c3] = words as [bigint, bigint, bigint, bigint];
      let [k0, k1] = keys as [bigint, bigint];
      for (let round = 0; round < 10; round++) {
        const product0 = 0xd2511f53n * c0;
        const product1 = 0xcd9e8d57n * c2;
        [c0, c1, c2, c3] = [
          (product1 >> 32n) ^ c1 ^ k0,
          product1 & mask,
          (product0 >> 32n) ^ c3 ^ k1,
          product0 & mask,
        ];
        k0 = (k0 + 0x9e3779b9n) & mask;
        k1 = (k1 + 0xbb67ae85n) & mask;
      }
      return [c0, c1, c2, c3].map(Number);
    };
    const random = stream(1);
    for (let block = 0; block < 500; block++) {
      const words = Array.from({ length: 6 }, (_, index) =>
        index === block % 6 ? 0xffffffff : random.uint32(6 * block + index),
      );
      const [c0, c1, c2, c3, k0, k1] = words as [number, number, number, number, number, number];
      expect(philox4x32([c0, c1, c2, c3], k0, k1)).toEqual(
        reference(words.slice(0, 4).map(BigInt), words.slice(4).map(BigInt)),
      );
    }
  });
});

describe("a random stream", () => {
  it("is a pure function of seed, labels and index", () => {
    const draw = () => stream(42).fork("sampler").fork(7).uniform(3);
    expect(draw()).toBe(draw());
    const one = stream(42);
    const before = one.uniform(5);
    one.fork("order").permutation(100);
    one.normals(10);
    expect(one.uniform(5)).toBe(before);
  });

  it("gives other draws for every other seed, label and index", () => {
    const root = stream(42);
    const labels = [
      "init",
      "order",
      "masking",
      "sampler",
      "dropout",
      "growth",
      "",
      "\0",
      "\0\0",
      "a",
      "a\0",
      "abcdefghijkl",
      "abcdefghijklm",
      "abcdefghijkl\0",
      "1",
      1,
      0,
      -1,
      2 ** 32,
      2 ** 32 + 1,
      Number.MAX_SAFE_INTEGER,
      Number.MIN_SAFE_INTEGER,
      "ä",
      "a\u0308",
    ];
    const streams = [
      root,
      stream(43),
      stream(42 + 2 ** 32),
      ...labels.map((label) => root.fork(label)),
      root.fork("init").fork("order"),
      root.fork("order").fork("init"),
      root.fork("initorder"),
    ];
    const draws = streams.flatMap((one) => [one.uniform(0), one.uniform(1), one.uniform(2 ** 32)]);
    expect(new Set(draws).size).toBe(draws.length);
  });

  it("has independent forks: neighbours do not correlate", () => {
    const root = stream(9).fork("sampler");
    const count = 20_000;
    const draws = Array.from({ length: count + 1 }, (_, step) => root.fork(step).uniform() - 0.5);
    for (const lag of [1, 2, 7]) {
      let covariance = 0;
      for (let step = lag; step < count; step++) covariance += draws[step]! * draws[step - lag]!;
      // Uniform draws have the variance 1/12; five standard errors of the correlation.
      expect(Math.abs(covariance / count / (1 / 12))).toBeLessThan(5 / Math.sqrt(count));
    }
    const other = stream(9).fork("masking");
    let covariance = 0;
    for (let step = 0; step < count; step++) covariance += draws[step]! * (other.fork(step).uniform() - 0.5);
    expect(Math.abs(covariance / count / (1 / 12))).toBeLessThan(5 / Math.sqrt(count));
  });

  it("is uniform in [0, 1) with 53 bits", () => {
    const random = stream(3).fork("uniform");
    const count = 50_000;
    const cells = new Array<number>(20).fill(0);
    let odd = 0;
    let least = 1;
    let most = 0;
    for (let index = 0; index < count; index++) {
      const value = random.uniform(index);
      least = Math.min(least, value);
      most = Math.max(most, value);
      cells[Math.floor(value * 20)]!++;
      odd += (value * 2 ** 53) % 2;
    }
    const statistic = cells.reduce((sum, seen) => sum + (seen - count / 20) ** 2 / (count / 20), 0);
    expect(least).toBeGreaterThanOrEqual(0);
    expect(most).toBeLessThan(1);
    // χ² with 19 degrees of freedom exceeds 52.4 with a probability of 5e-5.
    expect(statistic).toBeLessThan(52.4);
    expect(odd / count).toBeGreaterThan(0.48);
    expect(odd / count).toBeLessThan(0.52);
  });

  it("draws whole numbers below a bound alike", () => {
    const random = stream(4).fork("integer");
    const cells = new Array<number>(7).fill(0);
    for (let index = 0; index < 70_000; index++) cells[random.integer(7, index)]!++;
    // Five standard deviations of a binomial count of 10 000.
    for (const seen of cells) expect(Math.abs(seen - 10_000)).toBeLessThan(5 * Math.sqrt(10_000 * (6 / 7)));
    expect(random.integer(1)).toBe(0);
    for (const bound of [0, -1, 1.5, Number.NaN]) expect(() => random.integer(bound)).toThrow(RangeError);
  });

  it("draws from the standard normal distribution", () => {
    const count = 100_001;
    const values = stream(5).fork("normal").normals(count);
    expect(values).toHaveLength(count);
    const moment = (power: number): number => values.reduce((sum, value) => sum + value ** power, 0) / count;
    // Five standard errors each: the variance of x, x², x³, x⁴ is 1, 2, 15, 96.
    expect(Math.abs(moment(1))).toBeLessThan(5 * Math.sqrt(1 / count));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(5 * Math.sqrt(2 / count));
    expect(Math.abs(moment(3))).toBeLessThan(5 * Math.sqrt(15 / count));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(5 * Math.sqrt(96 / count));
    for (const lag of [1, 2, 3]) {
      let covariance = 0;
      for (let index = lag; index < count; index++) covariance += values[index]! * values[index - lag]!;
      expect(Math.abs(covariance / count)).toBeLessThan(5 / Math.sqrt(count));
    }
  });

  it("draws the same normals one by one and together, whatever the count", () => {
    const random = stream(6).fork("normal");
    for (const count of [0, 1, 2, 3, 4, 5, 9])
      expect([...random.normals(count)]).toEqual(
        Array.from({ length: count }, (_, index) => Math.fround(random.normal(index))),
      );
  });

  it("permutes: every element once, every order alike", () => {
    expect([...stream(1).permutation(1000)].sort((a, b) => a - b)).toEqual(
      Array.from({ length: 1000 }, (_, index) => index),
    );
    expect([...stream(1).permutation(0)]).toEqual([]);
    expect([...stream(1).permutation(1)]).toEqual([0]);
    const seen = new Map<string, number>();
    const count = 24_000;
    for (let epoch = 0; epoch < count; epoch++) {
      const order = stream(2).fork("order").fork(epoch).permutation(4).join("");
      seen.set(order, (seen.get(order) ?? 0) + 1);
    }
    expect(seen.size).toBe(24);
    // Five standard deviations of a binomial count of 1 000.
    for (const times of seen.values()) expect(Math.abs(times - 1000)).toBeLessThan(5 * Math.sqrt(1000));
  });

  it("refuses what is no seed and no label", () => {
    for (const seed of [-1, 0.5, Number.NaN, 2 ** 53]) expect(() => stream(seed)).toThrow(RangeError);
    for (const label of [0.5, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => stream(1).fork(label)).toThrow(RangeError);
    expect(stream(0).uniform()).not.toBe(stream(1).uniform());
  });
});
