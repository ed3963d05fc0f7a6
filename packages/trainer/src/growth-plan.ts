import {
  formatShape,
  type GrowthMap,
  type GrowthStage,
  type ModelConfig,
  type ModelShape,
  type Progress,
  sameShape,
  shapeAxes,
  shapeOf,
  UsageError,
} from "@espalier/core";
import type { TrainingSetup } from "./training-setup.js";

/**
 * The growth map that a run uses to enter a stage (0: from its source's shape to that of its first step). Pure: the same
 * answer before and during training.
 */
export function planGrowth(setup: TrainingSetup, from: ModelShape, to: ModelShape, stage: number): GrowthMap {
  const random = setup.random.fork("growth").fork(stage);
  return setup.strategies.expander.plan(shapeOf(from), shapeOf(to), setup.family, random);
}

/**
 * Goes through the growth of a run before anything is trained: every stage must be reached within the budget, must have
 * steps, the expander must know a way to it, and the last must be the target. An adaptive schedule says nothing in
 * advance and is not rehearsed.
 *
 * @param start the shape that training starts from, which is not the schedule's own where a checkpoint is deeper
 * @throws UsageError ESPALIER_GROWTH_UNREACHABLE, or what schedule and expander throw
 */
export function rehearseGrowth(setup: TrainingSetup, start: ModelShape): void {
  const { strategies, budget } = setup;
  const target = shapeOf(setup.config);
  for (const axis of shapeAxes)
    if (start[axis] > target[axis])
      throw new UsageError(
        "ESPALIER_START_LARGER",
        `training would start from ${formatShape(start)}, but model.${axis} is ${target[axis]}; a model cannot shrink`,
        { key: `model.${axis}` },
      );
  const plan = strategies.schedule.plan(budget, target);
  if (plan === "adaptive") return;
  checkReachable(plan, setup);
  let current: ModelShape = shapeOf(start);
  let memory = strategies.schedule.init();
  let stage = 0;
  for (const planned of plan) {
    const progress = progressAt(planned, stage);
    for (;;) {
      const random = setup.random.fork("schedule").fork(progress.step);
      const [to, after] = strategies.schedule.next(memory, { progress, current, target, budget }, random);
      memory = after;
      if (to === null) break;
      checkGrows(current, to);
      planGrowth(setup, current, to, progress.step > 0 || planned.at > 0 ? ++stage : stage);
      current = shapeOf(to);
    }
  }
  if (!sameShape(current, target))
    throw new UsageError(
      "ESPALIER_GROWTH_UNREACHABLE",
      `growth.schedule ends at ${formatShape(current)}, but the model of the definition is ${formatShape(target)}`,
      { key: "growth.schedule" },
    );
}

/**
 * Refuses a growth that changes nothing or shrinks, which would go on for ever.
 *
 * @throws UsageError ESPALIER_GROWTH_NOT_LARGER
 */
export function checkGrows(from: ModelShape, to: ModelShape): void {
  if (!sameShape(from, to) && shapeAxes.every((axis) => to[axis] >= from[axis])) return;
  throw new UsageError(
    "ESPALIER_GROWTH_NOT_LARGER",
    `growth.schedule asks for growth from ${formatShape(from)} to ${formatShape(to)}, which is not larger`,
    { key: "growth.schedule" },
  );
}

/** The model of the definition at another shape. */
export function configAt(config: ModelConfig, shape: ModelShape): ModelConfig {
  return { ...config, ...shapeOf(shape) };
}

function checkReachable(plan: readonly GrowthStage[], { budget }: TrainingSetup): void {
  for (const [index, { at, firstStep, shape }] of plan.entries()) {
    const previous = plan[index - 1];
    const isLate =
      at >= 1 || (firstStep !== null && budget.steps !== null && firstStep >= budget.steps && index > 0);
    const isEmpty =
      previous !== undefined &&
      (firstStep !== null && previous.firstStep !== null
        ? firstStep <= previous.firstStep
        : at <= previous.at);
    if (isLate || isEmpty)
      throw new UsageError(
        "ESPALIER_GROWTH_UNREACHABLE",
        `growth.schedule: stage ${index} (${formatShape(shape)}) starts at ${firstStep === null ? `${at} of the budget` : `step ${firstStep}`}, ${isLate ? `but the budget ends at ${budget.steps ?? budget.amount} ${budget.steps === null ? budget.unit : "steps"}` : `which leaves stage ${index - 1} without steps`}`,
        { key: "growth.schedule" },
      );
  }
}

function progressAt({ at, firstStep }: GrowthStage, stage: number): Progress {
  return { step: firstStep ?? 0, tokens: 0, flops: 0, stage, fraction: at, evaluationLoss: null };
}
