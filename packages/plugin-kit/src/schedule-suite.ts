import {
  checkShape,
  type GrowthSchedule,
  type Json,
  type ModelShape,
  sameShape,
  shapeAxes,
  shapeOf,
  stream,
  type TrainingBudget,
} from "@espalier/core";
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

/** The checks of {@link describeSchedule}. */
export type ScheduleCheck =
  | "the planned stages ascend and end at the target"
  | "every planned stage has a step"
  | "growth happens where it was planned"
  | "the target is reached before the end"
  | "nothing grows after the end"
  | "a deeper start does not shrink"
  | "a run resumed from JSON memory grows at the same steps"
  | "nothing but the input counts";

/** A growth in a simulated run. */
interface Growth {
  readonly step: number;
  readonly shape: ModelShape;
}

/** Options of {@link describeSchedule}. */
export interface ScheduleSuiteOptions {
  /** Default: depth 12. */
  readonly target?: ModelShape;
  /** Default: 200 steps, their tokens, their FLOPs. */
  readonly budgets?: readonly TrainingBudget[];
  /** Checks that do not apply, each with its reason. */
  readonly skip?: Skips<ScheduleCheck>;
}

/**
 * Conformance suite of growth schedules, on simulated runs of 200 steps with budgets in steps, tokens and FLOPs.
 *
 * @param create makes a fresh schedule that ends at the target
 */
export function describeSchedule(
  name: string,
  create: () => GrowthSchedule<Json>,
  options: ScheduleSuiteOptions = {},
): void {
  describe(`schedule ${name}`, () => runChecks(scheduleChecks(create, options), options.skip));
}

/** The checks that {@link describeSchedule} registers, by name: each throws where it fails. */
export function scheduleChecks(
  create: () => GrowthSchedule<Json>,
  options: ScheduleSuiteOptions = {},
): Checks<ScheduleCheck> {
  const target = deeplyFrozen(options.target ?? shapeOfDepth(12));
  const budgets: readonly TrainingBudget[] = deeplyFrozen<readonly TrainingBudget[]>(
    options.budgets ?? [
      { unit: "steps", amount: 200, steps: 200 },
      { unit: "tokens", amount: 200 * 1024, steps: 200 },
      { unit: "flops", amount: 200e9, steps: null },
    ],
  );
  const run = (budget: TrainingBudget, settings: { start?: ModelShape; resumed?: boolean } = {}): Growth[] =>
    simulated(create, budget, target, settings);

  return {
    "the planned stages ascend and end at the target": () => {
      for (const budget of budgets) {
        const stages = create().plan(budget, target);
        if (stages === "adaptive") continue;
        expect(stages.map((stage) => stage.index)).toEqual(stages.map((_, index) => index));
        expect(shapeOf(stages[0]!.shape)).toEqual(shapeOf(create().initial(target)));
        expect(stages[0]!.at).toBe(0);
        expect(shapeOf(stages.at(-1)!.shape)).toEqual(shapeOf(target));
        for (const [index, stage] of stages.entries()) {
          checkShape(stage.shape);
          if (index === 0) continue;
          expectLarger(stages[index - 1]!.shape, stage.shape);
          expect(stage.at).toBeGreaterThan(stages[index - 1]!.at);
        }
      }
    },
    "every planned stage has a step": () => {
      for (const budget of budgets) {
        const stages = create().plan(budget, target);
        if (stages === "adaptive" || budget.steps === null) continue;
        const ends = [...stages.slice(1).map((stage) => stage.firstStep!), budget.steps];
        for (const [index, stage] of stages.entries()) {
          expect(Number.isSafeInteger(stage.firstStep)).toBe(true);
          expect(stage.firstStep).toBeLessThan(ends[index]!);
        }
        expect(stages[0]!.firstStep).toBe(0);
      }
    },
    "growth happens where it was planned": () => {
      for (const budget of budgets) {
        const stages = create().plan(budget, target);
        if (stages === "adaptive") continue;
        const planned = stages.slice(1).map((stage) => ({
          step: stage.firstStep ?? firstStepAt(stage.at),
          shape: shapeOf(stage.shape),
        }));
        expect(run(budget)).toEqual(planned);
      }
    },
    "the target is reached before the end": () => {
      for (const budget of budgets) {
        const last = run(budget).at(-1);
        expect(last?.shape ?? shapeOf(create().initial(target))).toEqual(shapeOf(target));
        expect(last?.step ?? 0).toBeLessThan(steps);
      }
    },
    "nothing grows after the end": () => {
      for (const budget of budgets) expect(run(budget).filter(({ step }) => step >= steps)).toEqual([]);
    },
    "a deeper start does not shrink": () => {
      for (const budget of budgets)
        for (let depth = 1; depth <= target.depth; depth++) {
          const start = { ...shapeOf(target), depth };
          let current: ModelShape = start;
          for (const { shape } of run(budget, { start })) {
            expectLarger(current, shape);
            current = shape;
          }
          expect(shapeOf(current)).toEqual(shapeOf(target));
        }
    },
    "a run resumed from JSON memory grows at the same steps": () => {
      for (const budget of budgets) expect(run(budget, { resumed: true })).toEqual(run(budget));
    },
    "nothing but the input counts": () => {
      for (const budget of budgets) expect(withoutChanceAndTime(() => run(budget))).toEqual(run(budget));
    },
  };
}

const steps = 200;

function firstStepAt(share: number): number {
  return Array.from({ length: steps }, (_, step) => step).find((step) => step / steps >= share) ?? steps;
}

function expectLarger(before: ModelShape, after: ModelShape): void {
  expect(sameShape(before, after)).toBe(false);
  for (const axis of shapeAxes) expect(after[axis]).toBeGreaterThanOrEqual(before[axis]);
}

// The schedule is asked before each step, and for some steps after the budget is spent.
function simulated(
  create: () => GrowthSchedule<Json>,
  budget: TrainingBudget,
  target: ModelShape,
  settings: { start?: ModelShape; resumed?: boolean },
): Growth[] {
  const random = stream(11).fork("growth");
  let schedule = create();
  let memory = schedule.init();
  let current = settings.start ?? schedule.initial(target);
  const growths: Growth[] = [];
  for (let step = 0; step < steps + 20; step++) {
    if (settings.resumed) {
      schedule = create();
      memory = JSON.parse(JSON.stringify(memory)) as Json;
    }
    const input = {
      progress: progressAt(step, steps, growths.length),
      current: { ...current },
      target,
      budget,
    };
    const [shape, next] = schedule.next(deeplyFrozen(memory), deeplyFrozen(input), random.fork(step));
    memory = next;
    if (shape === null) continue;
    checkShape(shape);
    growths.push({ step, shape: shapeOf(shape) });
    current = shape;
  }
  return growths;
}
