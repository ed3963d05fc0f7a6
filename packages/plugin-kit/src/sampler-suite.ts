import { type DepthInput, type DepthSampler, type Json, type StepDepth, stream } from "@espalier/core";
import { describe, expect } from "vitest";
import {
  type Checks,
  deeplyFrozen,
  progressAt,
  runChecks,
  type Skips,
  shapeOfDepth,
  withoutChanceAndTime,
} from "./checks.js";
import { chiSquare, chiSquareLimit } from "./chi-square.js";

/** The checks of {@link describeSampler}. */
export type SamplerCheck =
  | "the distribution sums to 1"
  | "every depth lies between the unique layers and the target"
  | "samples follow the distribution"
  | "the same seed draws the same depths"
  | "a run resumed from JSON memory draws the same depths"
  | "nothing but the input counts"
  | "updates name layers that are executed";

const steps = 200;

/** Options of {@link describeSampler}. */
export interface SamplerSuiteOptions {
  /** Pairs of unique layers and target depth to try. */
  readonly depths?: readonly (readonly [uniqueLayers: number, target: number])[];
  /** Whether fewer layers than the unique ones may run (layer dropping). */
  readonly fewerLayers?: boolean;
  /** Checks that do not apply, each with its reason. */
  readonly skip?: Skips<SamplerCheck>;
}

/**
 * Conformance suite of depth samplers.
 *
 * @param create makes a fresh sampler
 */
export function describeSampler(
  name: string,
  create: () => DepthSampler<Json>,
  options: SamplerSuiteOptions = {},
): void {
  describe(`sampler ${name}`, () => runChecks(samplerChecks(create, options), options.skip));
}

/** The checks that {@link describeSampler} registers, by name: each throws where it fails. */
export function samplerChecks(
  create: () => DepthSampler<Json>,
  options: SamplerSuiteOptions = {},
): Checks<SamplerCheck> {
  const depths = options.depths ?? [
    [1, 12],
    [3, 12],
    [6, 12],
    [12, 12],
    [2, 7],
    [11, 15],
    [1, 1],
  ];
  const inputs = depths.map(
    ([unique, target]) =>
      (step: number) =>
        inputAt(step, unique, target),
  );

  return {
    "the distribution sums to 1": () => {
      for (const input of inputs) {
        const sampler = create();
        const probabilities = [...sampler.distribution(sampler.init(), input(0)).values()];
        expect(Math.min(...probabilities)).toBeGreaterThanOrEqual(0);
        expect(probabilities.reduce((sum, probability) => sum + probability, 0)).toBeCloseTo(1, 12);
      }
    },
    "every depth lies between the unique layers and the target": () => {
      for (const input of inputs) {
        const sampler = create();
        const { current, target } = input(0);
        for (const depth of sampler.distribution(sampler.init(), input(0)).keys()) {
          expect(Number.isSafeInteger(depth)).toBe(true);
          expect(depth).toBeGreaterThanOrEqual(options.fewerLayers ? 1 : current.depth);
          expect(depth).toBeLessThanOrEqual(target.depth);
        }
      }
    },
    "samples follow the distribution": () => {
      for (const [index, input] of inputs.entries()) {
        const sampler = create();
        const memory = sampler.init();
        const counts = new Map<number, number>();
        const random = stream(20240220).fork(index);
        for (let draw = 0; draw < 4000; draw++) {
          const [{ executedLayers }] = sampler.next(memory, input(0), random.fork(draw));
          counts.set(executedLayers, (counts.get(executedLayers) ?? 0) + 1);
        }
        const { statistic, degreesOfFreedom } = chiSquare(counts, sampler.distribution(memory, input(0)));
        expect(statistic).toBeLessThan(degreesOfFreedom === 0 ? 1e-9 : chiSquareLimit(degreesOfFreedom));
      }
    },
    "the same seed draws the same depths": () => {
      for (const input of inputs) expect(drawn(create, input, false)).toEqual(drawn(create, input, false));
    },
    "a run resumed from JSON memory draws the same depths": () => {
      for (const input of inputs) expect(drawn(create, input, true)).toEqual(drawn(create, input, false));
    },
    "nothing but the input counts": () => {
      for (const input of inputs)
        expect(withoutChanceAndTime(() => drawn(create, input, false))).toEqual(drawn(create, input, false));
    },
    "updates name layers that are executed": () => {
      for (const input of inputs)
        for (const { executedLayers, update } of drawn(create, input, false)) {
          if (update === "all") continue;
          expect(Number.isSafeInteger(update.topLayers)).toBe(true);
          expect(update.topLayers).toBeGreaterThanOrEqual(0);
          expect(update.topLayers).toBeLessThanOrEqual(executedLayers);
        }
    },
  };
}

function inputAt(step: number, unique: number, target: number): DepthInput {
  return deeplyFrozen({
    progress: progressAt(step, steps),
    current: shapeOfDepth(unique),
    target: shapeOfDepth(target),
  });
}

/** The draws of a run; a resumed one gets a new sampler and memory from JSON before each step. */
function drawn(
  create: () => DepthSampler<Json>,
  input: (step: number) => DepthInput,
  resumed: boolean,
): StepDepth[] {
  const random = stream(7).fork("sampler");
  let sampler = create();
  let memory = sampler.init();
  const draws: StepDepth[] = [];
  for (let step = 0; step < steps; step++) {
    if (resumed) {
      sampler = create();
      memory = JSON.parse(JSON.stringify(memory)) as Json;
    }
    const [draw, next] = sampler.next(deeplyFrozen(memory), input(step), random.fork(step));
    draws.push(draw);
    memory = next;
  }
  return draws;
}
