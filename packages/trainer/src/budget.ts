import { type LearningRatePoint, type Progress, type TrainingBudget, UsageError } from "@espalier/core";
import { checkPrecision } from "./precision.js";
import type { TrainingSetup } from "./training-setup.js";
import type { TrainingState } from "./training-state.js";

/** How much of the budget is spent, in its unit. */
export function spent(state: TrainingState, { unit }: TrainingBudget): number {
  return unit === "steps" ? state.step : unit === "tokens" ? state.tokens : state.flops;
}

/** What strategies may read of a run. */
export function progressOf(state: TrainingState, budget: TrainingBudget): Progress {
  const { step, tokens, flops, stage, evaluationLoss } = state;
  const fraction = Math.min(1, spent(state, budget) / budget.amount);
  return { step, tokens, flops, stage, fraction, evaluationLoss };
}

/** Where the step that was just completed lies in the learning-rate schedule. */
export function learningRatePoint(state: TrainingState, budget: TrainingBudget): LearningRatePoint {
  const position = spent(state, budget);
  const sinceGrowth = state.grownAt === null ? null : position - state.grownAt;
  return { unit: budget.unit, position, total: budget.amount, sinceGrowth };
}

/**
 * Refuses what no run can be made of. The definition's schema has said most of it before; a program that calls the
 * trainer has no schema.
 *
 * @throws UsageError ESPALIER_TRAINING_SETUP naming the key, ESPALIER_PRECISION_UNSUPPORTED
 */
export function checkSetup(setup: TrainingSetup): void {
  const { budget, family, config, data, strategies } = setup;
  checkPrecision(setup.precision ?? "fp32");
  const whole = (key: string, value: number, least: number): void => {
    if (!Number.isSafeInteger(value) || value < least)
      throw refuse(key, `must be a whole number of at least ${least}, but is ${value}`);
  };
  whole("training.batchSize", setup.batchSize, 1);
  whole("training.gradientAccumulation", setup.gradientAccumulation, 1);
  whole("evaluation.every", setup.evaluation.every, 0);
  whole("evaluation.batches", setup.evaluation.batches, 1);
  whole("checkpoints.every", setup.checkpoints.every, 0);
  whole("checkpoints.keep", setup.checkpoints.keep, 1);
  if (budget.unit === "steps") whole("training.steps", budget.amount, 1);
  else if (!(budget.amount > 0) || !Number.isFinite(budget.amount))
    throw refuse(`training.${budget.unit}`, `must be a positive number, but is ${budget.amount}`);
  const clip = setup.gradientClipNorm;
  if (clip !== null && !(clip > 0))
    throw refuse("training.gradientClipNorm", `must be positive, but is ${clip}`);
  if (strategies.objective.causal !== family.causal)
    throw refuse(
      "objective",
      strategies.objective.causal
        ? `needs a causal model, but ${family.name} sees what it is to predict`
        : `needs a model that sees both sides, but ${family.name} is causal`,
    );
  if (data.sequenceLength > config.maxPositions)
    throw refuse(
      "data.sequenceLength",
      `is ${data.sequenceLength}, but the model has only ${config.maxPositions} positions`,
    );
  for (const split of ["train", "validation"] as const)
    if (data.count(split) === 0)
      throw refuse(
        "data",
        `has no ${split} sequence of ${data.sequenceLength} tokens: use more text or a shorter sequenceLength`,
      );
}

function refuse(key: string, what: string): UsageError {
  return new UsageError("ESPALIER_TRAINING_SETUP", `${key} ${what}`, { key });
}
