import {
  type DepthInput,
  type GrowthStage,
  type MemoryCost,
  type ModelConfig,
  type ModelShape,
  shapeOf,
  type TrainingBudget,
} from "@espalier/core";
import { tokensPerStep } from "./budget.js";
import { type Experiment, type PlanningStrategies, planningStrategies } from "./resolve.js";

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
  const planned = strategies.schedule.plan(experiment.budget, target);
  const adaptive = planned === "adaptive";
  const stages: readonly GrowthStage[] = adaptive
    ? [{ index: 0, shape: strategies.schedule.initial(target), at: 0, firstStep: 0 }]
    : planned;
  const costed = stages.map((stage, position) =>
    costStage(stage, stages[position + 1]?.at ?? 1, experiment, strategies),
  );
  const timed = timeStages(costed, experiment.budget);
  const steps = timed.reduce((sum, stage) => sum + stage.steps, 0);
  const totalFlops = timed.reduce((sum, stage) => sum + stage.steps * stage.flopsPerStep, 0);
  const fullDepthFlops = steps * flopsOfDepth(experiment.config, target.depth, experiment, strategies);
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
    start: experiment.start.kind === "experiment" ? predictPlan(experiment.start.experiment) : null,
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
  const distribution = depthDistribution(stage, end, experiment, strategies);
  let expectedDepth = 0;
  let flopsPerStep = 0;
  for (const [depth, probability] of distribution) {
    expectedDepth += probability * depth;
    flopsPerStep += probability * flopsOfDepth(config, depth, experiment, strategies);
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

// How often a stage's distribution is asked for: a sampler may change it as training proceeds.
const probes = 16;

function depthDistribution(
  stage: GrowthStage,
  end: number,
  experiment: Experiment,
  { sampler }: PlanningStrategies,
): Map<number, number> {
  const { budget } = experiment;
  const at = (fraction: number): ReadonlyMap<number, number> => {
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
    return sampler.distribution(sampler.init(), input);
  };
  const first = at(stage.at);
  const sum = new Map<number, number>();
  let constant = true;
  for (let probe = 0; probe < probes; probe++) {
    const now = at(stage.at + ((probe + 0.5) / probes) * (end - stage.at));
    constant &&= now.size === first.size && [...now].every(([depth, p]) => first.get(depth) === p);
    for (const [depth, p] of now) sum.set(depth, (sum.get(depth) ?? 0) + p / probes);
  }
  return new Map([...(constant ? first : sum)].filter(([, p]) => p > 0).sort(([a], [b]) => a - b));
}

/** FLOPs of an optimizer step whose micro-steps all execute so many layers. */
function flopsOfDepth(
  config: ModelConfig,
  executedLayers: number,
  experiment: Experiment,
  strategies: PlanningStrategies,
): number {
  const { gradientAccumulation } = experiment.definition.training;
  return (
    gradientAccumulation *
    experiment.family.cost(config, load(executedLayers, experiment, strategies)).trainingFlops
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
