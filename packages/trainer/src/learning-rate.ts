import type { LearningRatePoint, LearningRateSchedule, TrainingBudget } from "@espalier/core";
import { UsageError } from "@espalier/core";

/** Warm-up lengths, each as a share of the budget or in optimizer steps. */
export interface WarmupOptions {
  readonly warmupRatio?: number | undefined;
  readonly warmupSteps?: number | undefined;
  /** After each growth the rate climbs anew from 0 to what the schedule has there. */
  readonly rewarmupRatio?: number | undefined;
  readonly rewarmupSteps?: number | undefined;
}

/** The falling part: from the share of it that is over (0..1) to the share of the way down that is left (1..0). */
export type Decay = (share: number) => number;

/** Half a cosine wave (Loshchilov & Hutter 2017, without restarts). */
export const cosineDecay: Decay = (share) => 0.5 * (1 + Math.cos(Math.PI * share));

/** A straight line. */
export const linearDecay: Decay = (share) => 1 - share;

/** 1 − √share: falls fast at first (Hägele et al. 2024, the cool-down that did best there). */
export const squareRootDecay: Decay = (share) => 1 - Math.sqrt(share);

/** No decay. */
export const noDecay: Decay = () => 1;

/**
 * A schedule: linear warm-up, the peak held for a while, then decay to `minimumRatio` of the peak at the end of the
 * budget. In the budget's units, `position` being what is spent at the end of the step: with a warm-up of one step the
 * first step has the full rate, and the last step of a cosine has `minimumRatio`.
 *
 * @param decayRatio share of the budget that the decay takes; null for all that the warm-up leaves
 */
export function learningRateSchedule(
  options: WarmupOptions & { readonly minimumRatio?: number | undefined },
  budget: TrainingBudget,
  decay: Decay,
  decayRatio: number | null = null,
): LearningRateSchedule {
  const warmup = lengthOf(options.warmupRatio, options.warmupSteps, "warmup", budget);
  const rewarmup = lengthOf(options.rewarmupRatio, options.rewarmupSteps, "rewarmup", budget);
  const minimum = options.minimumRatio ?? 0;
  return {
    factor(point: LearningRatePoint): number {
      const climbed = ramp(point.position, warmup);
      const again = point.sinceGrowth === null ? 1 : ramp(point.sinceGrowth, rewarmup);
      const decayLength = decayRatio === null ? point.total - warmup : decayRatio * point.total;
      const decayStart = Math.max(warmup, point.total - decayLength);
      const over = share(point.position - decayStart, point.total - decayStart);
      return climbed * again * (minimum + (1 - minimum) * decay(over));
    },
  };
}

function ramp(position: number, length: number): number {
  return position >= length ? 1 : position / length;
}

function share(part: number, whole: number): number {
  if (part <= 0) return 0;
  return part >= whole ? 1 : part / whole;
}

// A length in the budget's units. Whole steps are rounded up, as Hugging Face does it.
function lengthOf(
  ratio: number | undefined,
  steps: number | undefined,
  name: "warmup" | "rewarmup",
  budget: TrainingBudget,
): number {
  if (steps === undefined) {
    const length = (ratio ?? 0) * budget.amount;
    return budget.unit === "steps" ? Math.ceil(length) : length;
  }
  if (budget.unit === "steps") return steps;
  if (budget.steps !== null) return (steps * budget.amount) / budget.steps;
  throw new UsageError(
    "ESPALIER_WARMUP_UNIT",
    `${name}Steps needs a budget in steps or tokens, but the budget is in ${budget.unit}`,
    {
      key: `training.schedule.${name}Steps`,
      hint: `give ${name}Ratio, a share of the budget`,
    },
  );
}
