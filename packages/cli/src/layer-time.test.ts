import { expect, it } from "vitest";
import { fitLayerTime } from "./layer-time.js";

it("finds the fixed part and the time of a layer", () => {
  const times = [1, 2, 3, 4].map((depth) => ({ depth, stepSeconds: 0.5 + 0.25 * depth }));
  const fit = fitLayerTime(times);
  expect(fit.fixedSeconds).toBeCloseTo(0.5, 12);
  expect(fit.secondsPerLayer).toBeCloseTo(0.25, 12);
  expect(fit.largestDeviation).toBeCloseTo(0, 12);
});

it("tells the largest deviation of a layer's time", () => {
  // The line of least squares through these is 0.5 + 3 d, and misses (1, 4) by 0.5.
  const fit = fitLayerTime([
    { depth: 1, stepSeconds: 4 },
    { depth: 2, stepSeconds: 6 },
    { depth: 3, stepSeconds: 9 },
    { depth: 4, stepSeconds: 13 },
  ]);
  expect(fit.secondsPerLayer).toBeCloseTo(3, 12);
  expect(fit.fixedSeconds).toBeCloseTo(0.5, 12);
  expect(fit.steps.map(({ layerSeconds }) => layerSeconds)).toEqual([3.5, 2.75, 8.5 / 3, 3.125]);
  expect(fit.largestDeviation).toBeCloseTo(1 / 6, 12);
});

it("has no line through a single depth", () => {
  const fit = fitLayerTime([{ depth: 2, stepSeconds: 3 }]);
  expect(fit).toEqual({
    steps: [{ depth: 2, stepSeconds: 3, layerSeconds: 1.5 }],
    fixedSeconds: null,
    secondsPerLayer: null,
    largestDeviation: null,
  });
});
