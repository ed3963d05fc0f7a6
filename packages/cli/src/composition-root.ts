import "reflect-metadata";
import { resolve } from "node:path";
import {
  type ModelConfig,
  type RandomStream,
  type SequenceData,
  type Services,
  type StrategyKind,
  type StrategyKinds,
  serviceTokens,
  stream,
  type TokenizerInfo,
  tokens,
} from "@espalier/core";
import {
  createStrategy,
  type Experiment,
  type LoadedDefinition,
  loadDefinition,
  type NamedPlugins,
  PluginRegistry,
  plannedServices,
  resolveExperiment,
  type StrategyChoice,
} from "@espalier/experiments";
import type { TrainingStrategies } from "@espalier/trainer";
import { container, type DependencyContainer, type InjectionToken, instanceCachingFactory } from "tsyringe";
import type { HeldInputs } from "./run/held-inputs.js";
import { espalierVersion } from "./version.js";

/**
 * The one place where everything is put together: which plugins there are, what a definition becomes, and which
 * strategies a run is given. Nothing else asks the container.
 */

/**
 * Finds and loads every plugin: those built in, those that a definition names, others that are named, and those among the
 * dependencies.
 */
export async function loadRegistry(
  loaded?: LoadedDefinition,
  named: readonly NamedPlugins[] = [],
): Promise<PluginRegistry> {
  const [{ modelsPlugin }, { dataPlugin }, { trainerPlugin }] = await Promise.all([
    import("@espalier/models"),
    import("@espalier/data"),
    import("@espalier/trainer"),
  ]);
  const version = espalierVersion();
  return PluginRegistry.load({
    builtIn: [modelsPlugin, dataPlugin, trainerPlugin].map((plugin) => ({ plugin, version })),
    folders: [...(loaded ? [loaded.source.baseDirectory] : []), process.cwd(), import.meta.dirname],
    named: [...(loaded ? [pluginsOfDefinition(loaded)] : []), ...named],
  });
}

function pluginsOfDefinition({ definition, source }: LoadedDefinition): NamedPlugins {
  return {
    sources: definition.plugins,
    origin: "definition",
    file: resolve(source.file),
    // A run's lock stands elsewhere than the definition that it is of.
    folder: source.baseDirectory,
    key: "plugins",
  };
}

/**
 * Reads a definition, with the command line's overrides, and decides everything that needs no corpus.
 *
 * @throws UsageError with file and key
 */
export async function openExperiment(file: string, overrides: readonly string[]): Promise<Experiment> {
  return resolveDefinition(await loadDefinition(file, overrides));
}

/**
 * Resolves a definition that is loaded already.
 *
 * @param held what the run that is continued holds itself of what it was started from
 */
export async function resolveDefinition(
  loaded: LoadedDefinition,
  held: HeldInputs = {},
): Promise<Experiment> {
  const registry = await loadRegistry(loaded);
  return resolveExperiment(loaded, {
    registry,
    async readTokenizer(path) {
      const { readTokenizer } = await import("./read-tokenizer.js");
      const { tokenizerToRead } = await import("./run/held-inputs.js");
      return (await readTokenizer(await tokenizerToRead(path, held))).info;
    },
    async readCheckpoint(path) {
      if (held.source) return held.source;
      const { readSourceModel } = await import("./checkpoint-model.js");
      return readSourceModel(path, registry);
    },
  });
}

/** What a run adds to its experiment once the corpus is there. */
export interface RunParts {
  readonly tokenizer: TokenizerInfo;
  readonly data: SequenceData;
  readonly config: ModelConfig;
}

/** A run's strategies and streams. Dispose it with the run. */
export interface RunScope {
  readonly strategies: TrainingStrategies;
  /** The root stream of the seed. */
  readonly random: RandomStream;
  dispose(): Promise<void>;
}

/** Makes the strategies of a run in a container of its own. */
export function openRunScope(experiment: Experiment, parts: RunParts): RunScope {
  const scope = container.createChildContainer();
  const services: Services = { ...plannedServices(experiment), tokenizer: parts.tokenizer };
  // A factory: tsyringe takes a value of null for none.
  for (const [name, token] of Object.entries(serviceTokens) as [keyof Services, InjectionToken][])
    scope.register(token, { useFactory: () => services[name] });
  scope.register(tokens.data, { useValue: parts.data });
  scope.register(tokens.random, { useValue: stream(experiment.definition.seed) });
  const { choices } = experiment;
  const provide = <Kind extends StrategyKind>(
    token: InjectionToken<StrategyKinds[Kind]>,
    choice: StrategyChoice<Kind>,
  ): void => {
    scope.register(token, {
      useFactory: instanceCachingFactory((inner) => make(choice, inner, experiment)),
    });
  };
  provide(tokens.schedule, choices.schedule);
  provide(tokens.sampler, choices.sampler);
  provide(tokens.expander, choices.expander);
  provide(tokens.sharing, choices.sharing);
  provide(tokens.learningRate, choices.learningRate);
  provide(tokens.optimizer, choices.optimizer);
  provide(tokens.objective, choices.objective);
  return {
    strategies: {
      schedule: scope.resolve(tokens.schedule),
      sampler: scope.resolve(tokens.sampler),
      expander: scope.resolve(tokens.expander),
      sharing: scope.resolve(tokens.sharing),
      learningRate: scope.resolve(tokens.learningRate),
      optimizer: scope.resolve(tokens.optimizer),
      objective: scope.resolve(tokens.objective),
    },
    random: scope.resolve(tokens.random),
    async dispose() {
      await scope.dispose();
    },
  };
}

// A strategy gets the services that it declares, and those come from the run's container.
function make<Kind extends StrategyKind>(
  choice: StrategyChoice<Kind>,
  scope: DependencyContainer,
  experiment: Experiment,
): StrategyKinds[Kind] {
  const granted: Partial<Services> = {};
  const grant = <Name extends keyof Services>(name: Name): void => {
    granted[name] = scope.resolve(serviceTokens[name]);
  };
  for (const need of choice.registered.declaration.needs) grant(need);
  return createStrategy(choice, granted, experiment.locate);
}
