import type { LearningRatePoint, LearningRateSchedule, TrainingBudget } from "@espalier/core";
import { describe, expect, it } from "vitest";
import { cosineDecay, learningRateSchedule, linearDecay, noDecay, squareRootDecay } from "./learning-rate.js";
import { trainerPlugin } from "./trainer-plugin.js";

const inSteps = (amount: number): TrainingBudget => ({ unit: "steps", amount, steps: amount });

function factors(schedule: LearningRateSchedule, total: number, grownAt: number | null = null): number[] {
  return Array.from({ length: total }, (_, index) => {
    const position = index + 1;
    const sinceGrowth = grownAt === null || position <= grownAt ? null : position - grownAt;
    return schedule.factor({ unit: "steps", position, total, sinceGrowth });
  });
}

const close = (values: number[]) => values.map((value) => expect.closeTo(value, 12));

describe("cosine", () => {
  it("gives the rates of Apollo's released log, to every digit", () => {
    const schedule = learningRateSchedule({ warmupRatio: 0.025 }, inSteps(10), cosineDecay);
    const logged = [
      1e-4, 9.698463103929542e-5, 8.83022221559489e-5, 7.5e-5, 5.868240888334653e-5, 4.131759111665349e-5,
      2.5e-5, 1.1697777844051105e-5, 3.0153689607045845e-6, 0,
    ];
    const ours = factors(schedule, 10).map((factor) => factor * 1e-4);
    expect(ours).toEqual(logged.map((rate) => expect.closeTo(rate, 18)));
  });

  it("climbs for the warm-up and ends at the minimum", () => {
    const schedule = learningRateSchedule({ warmupSteps: 4, minimumRatio: 0.1 }, inSteps(8), cosineDecay);
    const middle = 0.1 + 0.9 * 0.5;
    expect(factors(schedule, 8)).toEqual(
      close([0.25, 0.5, 0.75, 1, 0.55 + 0.45 * Math.SQRT1_2, middle, 0.55 - 0.45 * Math.SQRT1_2, 0.1]),
    );
  });
});

it("linear falls in a straight line from the warm-up's end", () => {
  const schedule = learningRateSchedule({ warmupSteps: 2 }, inSteps(6), linearDecay);
  expect(factors(schedule, 6)).toEqual(close([0.5, 1, 0.75, 0.5, 0.25, 0]));
});

it("constant stays at the peak", () => {
  const schedule = learningRateSchedule({ warmupSteps: 2 }, inSteps(5), noDecay);
  expect(factors(schedule, 5)).toEqual([0.5, 1, 1, 1, 1]);
});

it("warm-up, stable, decay: the peak is held until the last share of the budget", () => {
  const schedule = learningRateSchedule({ warmupRatio: 0.2 }, inSteps(10), linearDecay, 0.4);
  expect(factors(schedule, 10)).toEqual(close([0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]));
  const cooled = learningRateSchedule({}, inSteps(8), squareRootDecay, 0.5);
  expect(factors(cooled, 8)).toEqual(close([1, 1, 1, 1, 0.5, 1 - Math.SQRT1_2, 1 - Math.sqrt(0.75), 0]));
});

it("warms up anew after growth, to what the schedule has there", () => {
  const schedule = learningRateSchedule({ rewarmupSteps: 4 }, inSteps(10), linearDecay);
  const plain = factors(learningRateSchedule({}, inSteps(10), linearDecay), 10);
  const ramp = [1, 1, 1, 0.25, 0.5, 0.75, 1, 1, 1, 1];
  expect(factors(schedule, 10, 3)).toEqual(close(plain.map((factor, index) => factor * ramp[index]!)));
});

it("runs over tokens and FLOPs as over steps", () => {
  const tokens = learningRateSchedule(
    { warmupSteps: 2 },
    { unit: "tokens", amount: 60, steps: 6 },
    linearDecay,
  );
  const at = (position: number): LearningRatePoint => ({
    unit: "tokens",
    position,
    total: 60,
    sinceGrowth: null,
  });
  expect([10, 20, 30, 60].map((position) => tokens.factor(at(position)))).toEqual(close([0.5, 1, 0.75, 0]));
  const flops: TrainingBudget = { unit: "flops", amount: 1e12, steps: null };
  const byRatio = learningRateSchedule({ warmupRatio: 0.5 }, flops, cosineDecay);
  const half = { unit: "flops" as const, position: 0.25e12, total: 1e12, sinceGrowth: null };
  expect(byRatio.factor(half)).toBe(0.5);
  // The last step may go beyond the budget; the rate does not go beyond its end.
  expect(byRatio.factor({ ...half, position: 1.1e12 })).toBeCloseTo(0, 12);
  expect(() => learningRateSchedule({ warmupSteps: 5 }, flops, cosineDecay)).toThrow(
    "warmupSteps needs a budget in steps or tokens, but the budget is in flops",
  );
});

describe("the plugin's options", () => {
  const options = (name: string) =>
    trainerPlugin.strategies.find((strategy) => strategy.name === name)!.options;

  it("have defaults and refuse what cannot be", () => {
    expect(options("adamw").parse({})).toEqual({
      learningRate: 1e-3,
      weightDecay: 0.01,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
    });
    expect(options("adamw").safeParse({ beta2: 1 }).success).toBe(false);
    expect(options("cosine").safeParse({ warmupRatio: 0.1, warmupSteps: 5 }).success).toBe(false);
    expect(options("cosine").safeParse({ warmup: 5 }).success).toBe(false);
    expect(options("constant").safeParse({ minimumRatio: 0.1 }).success).toBe(false);
    expect(options("warmup-stable-decay").parse({ warmupSteps: 5 })).toMatchObject({ decayRatio: 0.2 });
  });

  it("make the schedule that they name", () => {
    const cosine = trainerPlugin.strategies.find((strategy) => strategy.name === "cosine")!;
    const made = cosine.create({ warmupRatio: 0.025 }, { budget: inSteps(10) }) as LearningRateSchedule;
    expect(factors(made, 10)[3]).toBeCloseTo(0.75, 12);
  });
});
