import {
  formatShape,
  type GrowthSchedule,
  type GrowthStage,
  type Json,
  type ModelShape,
  sameShape,
  shapeAxes,
  shapeOf,
  stream,
  UsageError,
} from "@espalier/core";
import type { Experiment } from "./resolve.js";

/**
 * The stages that a run goes through: those of its schedule, where it starts with fresh parameters or from a model that is
 * no larger than the first of them. From a larger one it goes as the schedule answers for that model, as in training: stages
 * in which nothing grows are passed over, and the first is that of the source (or what it grows to before its first step).
 *
 * @returns for an adaptive schedule null: it says no stage in advance but the first, see {@link firstShapeOfRun}
 * @throws UsageError ESPALIER_GROWTH_NOT_LARGER if the schedule would shrink the source, and what the schedule throws
 */
export function stagesOfRun(
  experiment: Experiment,
  schedule: GrowthSchedule<Json>,
): readonly GrowthStage[] | null {
  const { budget, config, source } = experiment;
  const target = shapeOf(config);
  const planned = schedule.plan(budget, target);
  if (planned === "adaptive") return null;
  if (source === null || !isLarger(source, schedule.initial(target))) return planned;
  const stages: GrowthStage[] = [];
  let memory = schedule.init();
  let current = shapeOf(source);
  for (const { at, firstStep } of planned) {
    [current, memory] = growAt(
      experiment,
      schedule,
      { at, firstStep, index: stages.length },
      current,
      memory,
    );
    const before = stages.at(-1);
    if (before === undefined || !sameShape(before.shape, current))
      stages.push({ index: stages.length, shape: current, at, firstStep });
  }
  return stages;
}

/** The shape of the first step. */
export function firstShapeOfRun(experiment: Experiment, schedule: GrowthSchedule<Json>): ModelShape {
  const { config, source } = experiment;
  const initial = schedule.initial(shapeOf(config));
  if (source === null || !isLarger(source, initial)) return initial;
  const beginning = { at: 0, firstStep: 0, index: 0 };
  return growAt(experiment, schedule, beginning, shapeOf(source), schedule.init())[0];
}

/** What a model becomes where a stage of the schedule starts: it is asked until it is content, as in training. */
function growAt(
  { budget, config, definition }: Experiment,
  schedule: GrowthSchedule<Json>,
  { at, firstStep, index }: Omit<GrowthStage, "shape">,
  from: ModelShape,
  before: Json,
): [ModelShape, Json] {
  const step = firstStep ?? 0;
  const progress = { step, tokens: 0, flops: 0, stage: index, fraction: at, evaluationLoss: null };
  const random = stream(definition.seed).fork("schedule").fork(step);
  let current = from;
  let memory = before;
  for (;;) {
    const input = { progress, current, target: shapeOf(config), budget };
    const [to, after] = schedule.next(memory, input, random);
    memory = after;
    if (to === null) return [current, memory];
    if (sameShape(to, current) || isLarger(current, to))
      throw new UsageError(
        "ESPALIER_GROWTH_NOT_LARGER",
        `growth.schedule asks for growth from ${formatShape(current)} to ${formatShape(to)}, which is not larger`,
        { key: "growth.schedule" },
      );
    current = shapeOf(to);
  }
}

/** Whether it is larger than the other in any axis. */
function isLarger(shape: ModelShape, other: ModelShape): boolean {
  return shapeAxes.some((axis) => shape[axis] > other[axis]);
}
