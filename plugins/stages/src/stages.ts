import {
  type GrowthSchedule,
  type GrowthStage,
  type ModelShape,
  type TrainingBudget,
  UsageError,
} from "@espalier/core";
import { shareOfSteps } from "./share-of-steps.js";

/** Options of the schedule `stages`. */
export interface StagesOptions {
  /** Unique layers of each stage, ascending; the last is the target depth. */
  readonly depths: readonly number[];
  /** Share of the budget at which each stage starts, ascending from 0. */
  readonly at: readonly number[];
}

const depthsKey = "growth.schedule.depths";
const atKey = "growth.schedule.at";

/**
 * Growth at given shares of the budget: stage s starts when floor(at[s] · steps) steps are completed, or, where the
 * budget is in FLOPs, before the first step at which at least at[s] of it is spent.
 *
 * A run whose model is already as deep as a stage asks for does not shrink: the stage is passed over.
 *
 * @throws UsageError ESPALIER_SCHEDULE_INVALID if depths or shares do not ascend, or are not as many; from `plan` and
 * `initial` also if the last depth is not the target's, and from `plan` if a stage would have no steps
 */
export function stages({ depths, at }: StagesOptions): GrowthSchedule {
  checkDepths(depths);
  checkShares(at, depths);
  return {
    init: () => null,
    initial(target) {
      checkEnd(depths, target);
      return stageShape(depths[0]!, target);
    },
    plan(budget, target) {
      checkEnd(depths, target);
      const planned = depths.map((depth, index) => ({
        index,
        shape: stageShape(depth, target),
        at: at[index]!,
        firstStep: budget.steps === null ? null : shareOfSteps(at[index]!, budget.steps),
      }));
      checkSteps(planned, budget);
      return planned;
    },
    next(memory, { progress, current, target, budget }) {
      const started = (share: number): boolean =>
        budget.steps === null
          ? progress.fraction >= share
          : progress.step >= shareOfSteps(share, budget.steps);
      const depth = depths[at.findLastIndex(started)];
      const grows = depth !== undefined && depth > current.depth;
      return [grows ? stageShape(depth, target) : null, memory];
    },
  };
}

function stageShape(depth: number, target: ModelShape): ModelShape {
  const { hiddenSize, attentionHeads, intermediateSize } = target;
  return { depth, hiddenSize, attentionHeads, intermediateSize };
}

function refuse(key: string, reason: string): never {
  throw new UsageError("ESPALIER_SCHEDULE_INVALID", `${key} ${reason}`, { key });
}

function checkDepths(depths: readonly number[]): void {
  if (depths.length === 0) refuse(depthsKey, "is empty: at least the target depth is needed");
  for (const [stage, depth] of depths.entries()) {
    if (!Number.isSafeInteger(depth) || depth < 1)
      refuse(depthsKey, `must be whole numbers of at least 1, but stage ${stage} has ${depth}`);
    if (stage > 0 && depth <= depths[stage - 1]!)
      refuse(
        depthsKey,
        `must ascend, but ${depths[stage - 1]} is followed by ${depth} in [${depths.join(", ")}]`,
      );
  }
}

function checkShares(at: readonly number[], depths: readonly number[]): void {
  if (at.length !== depths.length)
    refuse(atKey, `needs one share for each depth: ${depths.length} depths, but ${at.length} shares`);
  if (at[0] !== 0) refuse(atKey, `must start at 0, where training starts, but starts at ${at[0]}`);
  for (const [stage, share] of at.entries()) {
    if (!(share >= 0 && share < 1))
      refuse(
        atKey,
        `must be shares of the budget below 1, but stage ${stage} starts at ${share}: it would have no steps`,
      );
    if (stage > 0 && share <= at[stage - 1]!)
      refuse(atKey, `must ascend, but ${at[stage - 1]} is followed by ${share} in [${at.join(", ")}]`);
  }
}

function checkEnd(depths: readonly number[], target: ModelShape): void {
  const last = depths.at(-1)!;
  if (last !== target.depth)
    refuse(depthsKey, `must end at the target depth (model.depth = ${target.depth}), but ends at ${last}`);
}

function checkSteps(planned: readonly GrowthStage[], budget: TrainingBudget): void {
  if (budget.steps === null) return;
  for (const { index, shape, at, firstStep } of planned) {
    const end = planned[index + 1]?.firstStep ?? budget.steps;
    if (end <= firstStep!)
      refuse(
        atKey,
        `leaves no steps for stage ${index} (depth ${shape.depth}): it starts after floor(${at} · ${budget.steps}) = ${firstStep} steps and ends after ${end}`,
      );
  }
}
