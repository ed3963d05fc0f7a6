import {
  type DepthInput,
  flopsOfStep,
  type GrowthStage,
  type MemoryCost,
  type ModelConfig,
  type ModelShape,
  type StepDepth,
  shapeOf,
  type TrainingBudget,
} from "@espalier/core";
import { tokensPerStep } from "./budget.js";
import { type Experiment, type PlanningStrategies, planningStrategies } from "./resolve.js";
import { firstShapeOfRun, stagesOfRun } from "./stages-of-run.js";

/** A stage, with what it is expected to cost. */
export interface PlannedStage {
  readonly index: number;
  /** Unique layers. */
  readonly depth: number;
  readonly shape: ModelShape;
  /** Share of the budget at which it starts. */
  readonly at: number;
  /** Completed steps when it starts. */
  readonly firstStep: number;
  readonly steps: number;
  /** P(executed depth) of a micro-step. */
  readonly distribution: { readonly [depth: string]: number };
  readonly expectedDepth: number;
  /** Expected FLOPs of an optimizer step. */
  readonly flopsPerStep: number;
  readonly parameters: number;
}

/** What a definition is going to do and to cost. */
export interface Plan {
  readonly name: string;
  readonly budget: TrainingBudget;
  readonly stages: readonly PlannedStage[];
  /** Of the target model. */
  readonly parameters: number;
  readonly steps: number;
  readonly tokens: number;
  /** Expected FLOPs of the whole run. */
  readonly totalFlops: number;
  /** FLOPs of as many steps at target depth. */
  readonly fullDepthFlops: number;
  /** 1 − totalFlops / fullDepthFlops. */
  readonly predictedSaving: number;
  /** Bytes at the hungriest stage, at its deepest draw. */
  readonly memory: MemoryCost & { readonly total: number };
  /** The plan of a nested definition that is trained first; its FLOPs are not counted above. */
  readonly start: Plan | null;
  /** The shape of the source, which the first growth goes from; null where training starts with fresh parameters. */
  readonly startShape: ModelShape | null;
  /** FLOPs of the source: those planned for a nested definition, those spent on a checkpoint; null where it does not say. */
  readonly sourceFlops: number | null;
  /** totalFlops + sourceFlops. */
  readonly totalFlopsWithSource: number | null;
  /** 1 − totalFlopsWithSource / fullDepthFlops. */
  readonly predictedSavingWithSource: number | null;
  /** Whether growth depends on how training goes: then the plan is that of the first shape throughout. */
  readonly adaptive: boolean;
}

/**
 * Computes what a definition does, without training and without reading its corpus: stages, the exact distribution of
 * depths, expected FLOPs, parameters, memory. With a FLOP budget the steps of a stage are those that its share of the
 * FLOPs is expected to pay for.
 */
export function predictPlan(experiment: Experiment): Plan {
  const strategies = planningStrategies(experiment);
  const target = shapeOf(experiment.config);
  const planned = stagesOfRun(experiment, strategies.schedule);
  const adaptive = planned === null;
  const stages: readonly GrowthStage[] = planned ?? [
    { index: 0, shape: firstShapeOfRun(experiment, strategies.schedule), at: 0, firstStep: 0 },
  ];
  const costed = stages.map((stage, position) =>
    costStage(stage, stages[position + 1]?.at ?? 1, experiment, strategies),
  );
  const timed = timeStages(costed, experiment.budget);
  const steps = timed.reduce((sum, stage) => sum + stage.steps, 0);
  const totalFlops = timed.reduce((sum, stage) => sum + stage.steps * stage.flopsPerStep, 0);
  const fullDepthFlops = steps * flopsOfDepth(experiment.config, target.depth, "all", experiment, strategies);
  const start = experiment.start.kind === "experiment" ? predictPlan(experiment.start.experiment) : null;
  const sourceFlops = start ? start.totalFlopsWithSource : experiment.checkpointFlops;
  const withSource = sourceFlops === null ? null : totalFlops + sourceFlops;
  return {
    name: experiment.definition.name,
    budget: experiment.budget,
    stages: timed,
    parameters: countParameters(experiment, experiment.config),
    steps,
    tokens: steps * tokensPerStep(experiment.definition),
    totalFlops,
    fullDepthFlops,
    predictedSaving: 1 - totalFlops / fullDepthFlops,
    memory: peakMemory(timed, experiment, strategies),
    start,
    startShape: experiment.source && shapeOf(experiment.source),
    sourceFlops,
    totalFlopsWithSource: withSource,
    predictedSavingWithSource: withSource === null ? null : 1 - withSource / fullDepthFlops,
    adaptive,
  };
}

type CostedStage = Omit<PlannedStage, "firstStep" | "steps"> & { readonly firstStep: number | null };

function costStage(
  stage: GrowthStage,
  end: number,
  experiment: Experiment,
  strategies: PlanningStrategies,
): CostedStage {
  const config: ModelConfig = { ...experiment.config, ...stage.shape };
  const draws = drawsOfStage(stage, end, experiment, strategies);
  const distribution = new Map<number, number>();
  let expectedDepth = 0;
  let flopsPerStep = 0;
  for (const { depth, probability, update } of draws) {
    distribution.set(depth, (distribution.get(depth) ?? 0) + probability);
    expectedDepth += probability * depth;
    flopsPerStep += probability * flopsOfDepth(config, depth, update, experiment, strategies);
  }
  return {
    index: stage.index,
    depth: stage.shape.depth,
    shape: stage.shape,
    at: stage.at,
    firstStep: stage.firstStep,
    distribution: Object.fromEntries(distribution),
    expectedDepth,
    flopsPerStep,
    parameters: countParameters(experiment, config),
  };
}

/** A depth that a micro-step of a stage executes and what it updates, with their share of the stage. */
interface Draw {
  readonly depth: number;
  readonly update: StepDepth["update"];
  readonly probability: number;
}

// How often a stage's distribution is asked for: a sampler may change it as training proceeds.
const probes = 400;

function drawsOfStage(
  stage: GrowthStage,
  end: number,
  experiment: Experiment,
  { sampler }: PlanningStrategies,
): Draw[] {
  const { budget } = experiment;
  const at = (fraction: number): Draw[] => {
    const input: DepthInput = {
      current: stage.shape,
      target: shapeOf(experiment.config),
      progress: {
        step: Math.floor(fraction * (budget.steps ?? 0)),
        tokens: budget.unit === "flops" ? 0 : fraction * budget.amount,
        flops: budget.unit === "flops" ? fraction * budget.amount : 0,
        stage: stage.index,
        fraction,
        evaluationLoss: null,
      },
    };
    const memory = sampler.init();
    return [...sampler.distribution(memory, input)].map(([depth, probability]) => ({
      depth,
      probability,
      update: sampler.update?.(memory, input, depth) ?? "all",
    }));
  };
  const keyOf = ({ depth, update }: Draw): string => JSON.stringify([depth, update]);
  const first = new Map(at(stage.at).map((draw) => [keyOf(draw), draw]));
  const sum = new Map<string, Draw>();
  let constant = true;
  for (let probe = 0; probe < probes; probe++) {
    const now = at(stage.at + ((probe + 0.5) / probes) * (end - stage.at));
    constant &&=
      now.length === first.size &&
      now.every((draw) => first.get(keyOf(draw))?.probability === draw.probability);
    for (const draw of now) {
      const key = keyOf(draw);
      const before = sum.get(key)?.probability ?? 0;
      sum.set(key, { ...draw, probability: before + draw.probability / probes });
    }
  }
  return [...(constant ? first : sum).values()]
    .filter(({ probability }) => probability > 0)
    .sort((a, b) => a.depth - b.depth);
}

/** FLOPs of an optimizer step whose micro-steps all execute so many layers. */
function flopsOfDepth(
  config: ModelConfig,
  executedLayers: number,
  update: StepDepth["update"],
  experiment: Experiment,
  strategies: PlanningStrategies,
): number {
  const { gradientAccumulation } = experiment.definition.training;
  return (
    gradientAccumulation *
    flopsOfStep(experiment.family, config, load(executedLayers, experiment, strategies), update)
  );
}

function load(executedLayers: number, experiment: Experiment, { objective }: PlanningStrategies) {
  const { batchSize } = experiment.definition.training;
  const { sequenceLength } = experiment.definition.data;
  return {
    batchSize,
    sequenceLength,
    executedLayers,
    countedPositions: objective.countedPositions(batchSize, sequenceLength),
  };
}

// The schedule says at which step a stage starts where steps are known; a FLOP budget is spent at the expected rate,
// and a stage begins with the first step after its share is spent.
function timeStages(stages: readonly CostedStage[], budget: TrainingBudget): PlannedStage[] {
  if (budget.steps !== null) {
    const total = budget.steps;
    return stages.map((stage, position) => {
      const firstStep = stage.firstStep ?? Math.floor(stage.at * total);
      const next = stages[position + 1];
      const end = next ? (next.firstStep ?? Math.floor(next.at * total)) : total;
      return { ...stage, firstStep, steps: end - firstStep };
    });
  }
  let spent = 0;
  let step = 0;
  return stages.map((stage, position) => {
    const end = (stages[position + 1]?.at ?? 1) * budget.amount;
    const steps = Math.max(0, Math.ceil((end - spent) / stage.flopsPerStep));
    const timed = { ...stage, firstStep: step, steps };
    spent += steps * stage.flopsPerStep;
    step += steps;
    return timed;
  });
}

function peakMemory(
  stages: readonly PlannedStage[],
  experiment: Experiment,
  strategies: PlanningStrategies,
): Plan["memory"] {
  let peak: Plan["memory"] | null = null;
  for (const stage of stages) {
    const deepest = Math.max(...Object.keys(stage.distribution).map(Number));
    const cost = experiment.family.memory(
      { ...experiment.config, ...stage.shape },
      load(deepest, experiment, strategies),
      experiment.definition.training,
    );
    const total = cost.parameters + cost.gradients + cost.optimizer + cost.activations;
    if (!peak || total > peak.total) peak = { ...cost, total };
  }
  return peak!;
}

function countParameters(experiment: Experiment, config: ModelConfig): number {
  return experiment.family
    .parameters(config)
    .reduce((sum, parameter) => sum + parameter.shape.reduce((size, axis) => size * axis, 1), 0);
}
