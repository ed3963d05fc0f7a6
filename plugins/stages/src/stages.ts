import {
  type GrowthSchedule,
  type GrowthStage,
  type ModelShape,
  sameShape,
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
  /**
   * Hidden size of each stage, ascending to the target's; the target's throughout where it is left out. Heads keep their
   * size, and the feed-forward part its proportion. A stage may then be as deep as the one before.
   */
  readonly hiddenSizes?: readonly number[] | undefined;
}

const depthsKey = "growth.schedule.depths";
const atKey = "growth.schedule.at";
const sizesKey = "growth.schedule.hiddenSizes";

/**
 * Growth at given shares of the budget: stage s starts when floor(at[s] · steps) steps are completed, or, where the
 * budget is in FLOPs, before the first step at which at least at[s] of it is spent.
 *
 * A run whose model is already as deep as a stage asks for does not shrink: the stage is passed over. A run whose source is
 * narrower or shallower than a stage grows to it.
 *
 * @throws UsageError ESPALIER_SCHEDULE_INVALID if depths or shares do not ascend, or are not as many; from `plan` and
 * `initial` also if the last depth is not the target's, and from `plan` if a stage would have no steps
 */
export function stages({ depths, at, hiddenSizes }: StagesOptions): GrowthSchedule {
  checkDepths(depths, hiddenSizes);
  checkShares(at, depths);
  const stageShape = (stage: number, target: ModelShape): ModelShape =>
    shapeOfStage(depths[stage]!, hiddenSizes?.[stage] ?? target.hiddenSize, target);
  return {
    init: () => null,
    initial(target) {
      checkEnd(depths, hiddenSizes, target);
      return stageShape(0, target);
    },
    plan(budget, target) {
      checkEnd(depths, hiddenSizes, target);
      const planned = depths.map((_, index) => ({
        index,
        shape: stageShape(index, target),
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
      const stage = at.findLastIndex(started);
      if (stage < 0) return [null, memory];
      const shape = stageShape(stage, target);
      const grown: ModelShape = {
        depth: Math.max(shape.depth, current.depth),
        hiddenSize: Math.max(shape.hiddenSize, current.hiddenSize),
        attentionHeads: Math.max(shape.attentionHeads, current.attentionHeads),
        intermediateSize: Math.max(shape.intermediateSize, current.intermediateSize),
      };
      return [sameShape(grown, current) ? null : grown, memory];
    },
  };
}

function shapeOfStage(depth: number, hiddenSize: number, target: ModelShape): ModelShape {
  const share = hiddenSize / target.hiddenSize;
  const shape = {
    depth,
    hiddenSize,
    attentionHeads: target.attentionHeads * share,
    intermediateSize: target.intermediateSize * share,
  };
  for (const axis of ["attentionHeads", "intermediateSize"] as const)
    if (!Number.isSafeInteger(shape[axis]))
      refuse(
        sizesKey,
        `has ${hiddenSize}, at which the target's ${target[axis]} of model.${axis} would be ${shape[axis]}: heads keep their size (${target.hiddenSize / target.attentionHeads} channels), the feed-forward part its proportion`,
      );
  return shape;
}

function refuse(key: string, reason: string): never {
  throw new UsageError("ESPALIER_SCHEDULE_INVALID", `${key} ${reason}`, { key });
}

function checkDepths(depths: readonly number[], sizes: readonly number[] | undefined): void {
  if (depths.length === 0) refuse(depthsKey, "is empty: at least the target depth is needed");
  // First: whether depths may stay the same depends on them.
  if (sizes) checkSizes(sizes, depths);
  for (const [stage, depth] of depths.entries()) {
    if (!Number.isSafeInteger(depth) || depth < 1)
      refuse(depthsKey, `must be whole numbers of at least 1, but stage ${stage} has ${depth}`);
    if (stage === 0) continue;
    const isWider = sizes !== undefined && sizes[stage]! > sizes[stage - 1]!;
    if (isWider ? depth < depths[stage - 1]! : depth <= depths[stage - 1]!)
      refuse(
        depthsKey,
        `must ascend, but ${depths[stage - 1]} is followed by ${depth} in [${depths.join(", ")}]`,
      );
  }
}

function checkSizes(sizes: readonly number[], depths: readonly number[]): void {
  if (sizes.length !== depths.length)
    refuse(
      sizesKey,
      `needs one size for each depth: ${depths.length} depths, but ${sizes.length} hidden sizes`,
    );
  for (const [stage, size] of sizes.entries()) {
    if (!Number.isSafeInteger(size) || size < 1)
      refuse(sizesKey, `must be whole numbers of at least 1, but stage ${stage} has ${size}`);
    if (stage > 0 && size < sizes[stage - 1]!)
      refuse(
        sizesKey,
        `must not fall, but ${sizes[stage - 1]} is followed by ${size} in [${sizes.join(", ")}]`,
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

function checkEnd(depths: readonly number[], sizes: readonly number[] | undefined, target: ModelShape): void {
  const last = depths.at(-1)!;
  if (last !== target.depth)
    refuse(depthsKey, `must end at the target depth (model.depth = ${target.depth}), but ends at ${last}`);
  const widest = sizes?.at(-1) ?? target.hiddenSize;
  if (widest !== target.hiddenSize)
    refuse(
      sizesKey,
      `must end at the target's hidden size (model.hiddenSize = ${target.hiddenSize}), but ends at ${widest}`,
    );
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
