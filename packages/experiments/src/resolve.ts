import {
  checkShape,
  type DepthSampler,
  type Expander,
  type GrowthSchedule,
  type Json,
  type ModelConfig,
  type ModelFamily,
  type ModelShape,
  type Objective,
  type Services,
  type StrategyKind,
  sameShape,
  shapeOf,
  stream,
  type TokenizerInfo,
  type TrainingBudget,
} from "@espalier/core";
import { trainingBudget } from "./budget.js";
import { chooseGrowth } from "./growth-section.js";
import type { LoadedDefinition } from "./load.js";
import {
  modelConfig,
  refuseObjective,
  refuseOtherFamily,
  refuseStart,
  vocabularyRows,
} from "./model-section.js";
import { plannedTokenizer } from "./planned-tokenizer.js";
import type { PluginRegistry } from "./registry.js";
import type { Definition, StrategyReference } from "./schema.js";
import type { Locate } from "./schema-errors.js";
import { firstShapeOfRun, stagesOfRun } from "./stages-of-run.js";
import { startOf, underStart } from "./start.js";
import {
  chooseStrategy,
  createStrategy,
  type Reference,
  type StrategyChoice,
  splitReference,
  withPlace,
  withPlaceAsync,
} from "./strategy-choice.js";
import { widthOperators } from "./width-operator.js";

/** The strategies that a definition chose, one of each kind that a run needs. */
export type StrategyChoices = {
  readonly [Kind in Exclude<StrategyKind, "layerMapping" | "widthOperator">]: StrategyChoice<Kind>;
} & { readonly sharing: StrategyChoice<"layerMapping"> };

/** What resolving reads from outside of the definition. */
export interface ResolveSources {
  readonly registry: PluginRegistry;
  /** Reads a tokenizer file (an absolute path). */
  readTokenizer(path: string): Promise<TokenizerInfo>;
  /** Reads the model of a checkpoint to start from (an absolute path). */
  readCheckpoint(path: string): Promise<SourceModel>;
}

/** The model that a run starts from. */
export interface SourceModel {
  readonly config: ModelConfig;
  /** FLOPs that it took to train, its own sources included; null where it does not say. */
  readonly flops: number | null;
}

/** What a run starts from. */
export type Start =
  | { readonly kind: "none" }
  /** An absolute path. */
  | { readonly kind: "checkpoint"; readonly path: string }
  /** Trained first, in the run's own folder. */
  | { readonly kind: "experiment"; readonly experiment: Experiment };

/** A definition with everything decided that can be decided without reading the corpus. */
export interface Experiment {
  readonly loaded: LoadedDefinition;
  readonly definition: Definition;
  readonly locate: Locate;
  readonly registry: PluginRegistry;
  readonly choices: StrategyChoices;
  readonly family: ModelFamily;
  /** The model that training ends at. Its vocabulary is the planned one until the tokenizer is there. */
  readonly config: ModelConfig;
  readonly tokenizer: TokenizerInfo;
  readonly budget: TrainingBudget;
  readonly start: Start;
  /** The model of `start`: the shape that the first growth goes from. Null where training starts with fresh parameters. */
  readonly source: ModelConfig | null;
  /**
   * FLOPs of the checkpoint that training starts from; null where it does not say. 0 without one, and for a nested
   * definition, whose plan says it.
   */
  readonly checkpointFlops: number | null;
}

/** The strategies that a plan asks; they touch no tensor and read no corpus. */
export interface PlanningStrategies {
  readonly schedule: GrowthSchedule<Json>;
  readonly sampler: DepthSampler<Json>;
  readonly expander: Expander;
  readonly objective: Objective;
}

/**
 * Decides everything that a definition leaves open and refuses what cannot be trained.
 *
 * @throws UsageError with file and key
 */
export async function resolveExperiment(
  loaded: LoadedDefinition,
  sources: ResolveSources,
): Promise<Experiment> {
  const { definition, locate } = loaded;
  const { registry } = sources;
  const { baseDirectory } = loaded.source;
  const familyChoice = chooseStrategy(
    registry,
    "family",
    { use: definition.model.family, options: {} },
    "model.family",
    locate,
  );
  const family = createStrategy(familyChoice, {}, locate);
  const budget = trainingBudget(definition, locate);
  const tokenizer = await tokenizerOf(loaded, sources);
  const { start, source, checkpointFlops } = await resolveStart(loaded, sources);
  if (source) refuseOtherFamily(source, family, nameOfStart(start), locate);
  const checkpoint = start.kind === "checkpoint" ? source : null;
  const rows = vocabularyRows(definition, tokenizer.vocabSize, checkpoint);
  const config = modelConfig(definition, family, rows, source, locate);
  const services: Services = {
    target: shapeOf(config),
    family,
    budget,
    tokenizer,
    baseDirectory,
    source: source && shapeOf(source),
    widthOperator: widthOperators(registry, locate),
  };
  const choices = chooseAll(definition, registry, familyChoice, services, locate);
  const experiment: Experiment = {
    loaded,
    definition,
    locate,
    registry,
    choices,
    family,
    config,
    tokenizer,
    budget,
    start,
    source,
    checkpointFlops,
  };
  refuseObjective(anyObjective(experiment), choices.objective.use, family, locate);
  createStrategy(choices.learningRate, services, locate);
  createStrategy(choices.optimizer, services, locate);
  rehearseStages(experiment);
  return experiment;
}

/**
 * Walks through the stages as far as they are known, from the source's shape where there is one, so that an impossible
 * growth is told before anything is trained.
 */
function rehearseStages(experiment: Experiment): void {
  const { config, family, locate, start, source } = experiment;
  const { schedule, expander } = planningStrategies(experiment);
  const target = shapeOf(config);
  withPlace("growth.schedule", locate, () => schedule.initial(target));
  if (source) refuseStart(source, config, nameOfStart(start), locate);
  const initial = withPlace("growth.schedule", locate, () => firstShapeOfRun(experiment, schedule));
  const grow = (from: ModelShape, to: ModelShape): void =>
    withPlace("growth.expander", locate, () => {
      expander.plan(from, to, family, stream(experiment.definition.seed).fork("growth"));
    });
  if (source && !sameShape(source, initial)) grow(shapeOf(source), initial);
  const stages = withPlace("growth.schedule", locate, () => stagesOfRun(experiment, schedule));
  if (stages === null) return;
  for (const [position, { shape }] of stages.entries()) {
    withPlace("growth.schedule", locate, () => {
      checkShape(shape, "growth.schedule");
      family.check({ ...config, ...shape });
    });
    const before = stages[position - 1];
    if (before) grow(before.shape, shape);
  }
}

async function resolveStart(
  loaded: LoadedDefinition,
  sources: ResolveSources,
): Promise<Pick<Experiment, "start" | "source" | "checkpointFlops">> {
  const reference = startOf(loaded);
  switch (reference.kind) {
    case "none":
      return { start: reference, source: null, checkpointFlops: 0 };
    case "checkpoint": {
      const { config, flops } = await withPlaceAsync("start", loaded.locate, () =>
        sources.readCheckpoint(reference.path),
      );
      return { start: reference, source: config, checkpointFlops: flops };
    }
    case "definition": {
      const experiment = await resolveExperiment(reference.loaded, sources).catch((error) => {
        throw underStart(error, reference.own);
      });
      return { start: { kind: "experiment", experiment }, source: experiment.config, checkpointFlops: 0 };
    }
  }
}

function nameOfStart(start: Start): string {
  if (start.kind === "checkpoint") return `checkpoint "${start.path}"`;
  return start.kind === "experiment" ? `nested definition "${start.experiment.definition.name}"` : "start";
}

/** The services that are known before any corpus is read. */
export function plannedServices(experiment: Experiment): Services {
  return {
    target: shapeOf(experiment.config),
    family: experiment.family,
    budget: experiment.budget,
    tokenizer: experiment.tokenizer,
    baseDirectory: experiment.loaded.source.baseDirectory,
    source: experiment.source && shapeOf(experiment.source),
    widthOperator: widthOperators(experiment.registry, experiment.locate),
  };
}

/** Makes the strategies that a plan asks. */
export function planningStrategies(experiment: Experiment): PlanningStrategies {
  const { choices, locate } = experiment;
  const services = plannedServices(experiment);
  return {
    schedule: createStrategy(choices.schedule, services, locate),
    sampler: createStrategy(choices.sampler, services, locate),
    expander: createStrategy(choices.expander, services, locate),
    objective: createStrategy(choices.objective, services, locate),
  };
}

// Whether an objective fits the family is the first question; whether the tokenizer can mask comes after it.
function anyObjective(experiment: Experiment): Objective {
  const { choices, tokenizer, locate } = experiment;
  const masking: TokenizerInfo = { ...tokenizer, maskToken: tokenizer.maskToken ?? 0 };
  return createStrategy(choices.objective, { ...plannedServices(experiment), tokenizer: masking }, locate);
}

function chooseAll(
  definition: Definition,
  registry: PluginRegistry,
  family: StrategyChoice<"family">,
  services: Services,
  locate: Locate,
): StrategyChoices {
  const choose = <Kind extends StrategyKind>(kind: Kind, reference: Reference, key: string) =>
    chooseStrategy(registry, kind, reference, key, locate);
  const growth = chooseGrowth(definition.growth, services.target, registry, locate);
  const expander = createStrategy(growth.expander, services, locate);
  const { training, data } = definition;
  return {
    ...growth,
    sharing:
      growth.sharing ?? choose("layerMapping", { use: expander.layerMapping, options: {} }, "growth.sharing"),
    family,
    corpus: choose("corpus", splitReference(data.corpus), "data.corpus"),
    objective: choose(
      "objective",
      splitReference(definition.objective ?? (services.family.causal ? "causal-lm" : "masked-lm")),
      "objective",
    ),
    optimizer: choose("optimizer", named(training.optimizer, "adamw"), "training.optimizer"),
    learningRate: choose("learningRate", named(training.schedule, "cosine"), "training.schedule"),
  };
}

// Options alone (`optimizer: { learningRate: 1e-3 }`) are those of the default strategy.
function named(reference: StrategyReference, fallback: string): Reference {
  const { use, options } = splitReference(reference);
  return { use: use ?? fallback, options };
}

async function tokenizerOf(loaded: LoadedDefinition, sources: ResolveSources): Promise<TokenizerInfo> {
  const { tokenizer } = loaded.definition.data;
  if (tokenizer.kind !== "file") return plannedTokenizer(tokenizer);
  const { resolve } = await import("node:path");
  return withPlaceAsync("data.tokenizer.path", loaded.locate, () =>
    sources.readTokenizer(resolve(loaded.source.baseDirectory, tokenizer.path)),
  );
}
