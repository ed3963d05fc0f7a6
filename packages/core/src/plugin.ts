import type { z } from "zod";
import { EspalierError } from "./errors.js";
import type { Json, JsonObject } from "./json.js";
import type { LayerMapping } from "./layer-map.js";
import type { ModelFamily } from "./model-family.js";
import type { ModelShape } from "./shape.js";
import type { DepthSampler, Expander, GrowthSchedule, TrainingBudget, WidthOperator } from "./strategy.js";
import type { Corpus, LearningRateSchedule, Objective, Optimizer, TokenizerInfo } from "./training.js";

/** What each kind of strategy makes. */
export interface StrategyKinds {
  sampler: DepthSampler<Json>;
  schedule: GrowthSchedule<Json>;
  expander: Expander;
  widthOperator: WidthOperator;
  layerMapping: LayerMapping;
  learningRate: LearningRateSchedule;
  optimizer: Optimizer;
  objective: Objective;
  corpus: Corpus;
  family: ModelFamily;
}

/** The names of the kinds. */
export type StrategyKind = keyof StrategyKinds;

/** What a strategy may ask for. It gets the services that it names in `needs` and nothing else. */
export interface Services {
  /** The shape that training ends at. */
  target: ModelShape;
  family: ModelFamily;
  budget: TrainingBudget;
  tokenizer: TokenizerInfo;
  /** The folder that relative paths of a definition start from. */
  baseDirectory: string;
  /** The shape that a run starts from where it has a source (a checkpoint or a nested definition); null for none. */
  source: ModelShape | null;
  /**
   * Makes the width operator of that name with options of its own, so that a plugin combines with one that it does not
   * import.
   *
   * @throws UsageError with the nearest names where there is none, or for wrong options
   */
  widthOperator: (reference: StrategyName) => WidthOperator;
}

/** A strategy as an option names it: its name, or `{ use: name, …its options }`. */
export type StrategyName = string | { readonly use: string; readonly [option: string]: unknown };

/** A strategy as a plugin declares it. */
export interface StrategyDeclaration<Kind extends StrategyKind = StrategyKind> {
  readonly kind: Kind;
  /** The name that a definition's `use:` gives. */
  readonly name: string;
  /** One line for `plugin list`. */
  readonly description: string;
  /** Options, with their defaults; strict, so that a wrong key is an error. */
  readonly options: z.ZodType<object>;
  readonly needs: readonly (keyof Services)[];
  create(options: object, services: Partial<Services>): StrategyKinds[Kind];
}

/** A growth method as a combination of strategies: the `growth` section of a definition, for a target shape. */
export interface Preset {
  readonly name: string;
  readonly description: string;
  growth(target: ModelShape): JsonObject;
}

/** What a plugin package exports by default. */
export interface Plugin {
  readonly name: string;
  readonly contract: 1;
  readonly strategies: readonly StrategyDeclaration[];
  readonly presets: readonly Preset[];
}

/**
 * Declares a strategy with its option and service types checked.
 *
 * @example
 * strategy({ kind: "sampler", name: "uniform", description: "every depth alike", options: z.strictObject({}), needs: [],
 *   create: () => uniform() })
 */
export function strategy<
  Kind extends StrategyKind,
  Options extends object,
  Need extends keyof Services = never,
>(declaration: {
  readonly kind: Kind;
  readonly name: string;
  readonly description: string;
  readonly options: z.ZodType<Options>;
  readonly needs: readonly Need[];
  create(options: Options, services: Pick<Services, Need>): StrategyKinds[Kind];
}): StrategyDeclaration<Kind> {
  return {
    ...declaration,
    create(options, services) {
      for (const need of declaration.needs)
        if (services[need] === undefined)
          throw new EspalierError(
            "ESPALIER_PLUGIN_SERVICE_MISSING",
            `${declaration.kind} "${declaration.name}" needs the service "${need}", which is not available here`,
          );
      // The options have passed `declaration.options` before; the services were checked just now.
      return declaration.create(options as Options, services as Pick<Services, Need>);
    },
  };
}

/**
 * Declares a plugin; a plugin package's default export.
 *
 * @throws EspalierError ESPALIER_PLUGIN_INVALID if two of its strategies, or two of its presets, have the same name
 */
export function definePlugin(plugin: {
  readonly name: string;
  readonly contract: 1;
  readonly strategies?: readonly StrategyDeclaration[];
  readonly presets?: readonly Preset[];
}): Plugin {
  const declared = [
    ...(plugin.strategies ?? []).map(({ kind, name }) => `${kind} "${name}"`),
    ...(plugin.presets ?? []).map(({ name }) => `preset "${name}"`),
  ];
  const twice = declared.find((what, index) => declared.indexOf(what) !== index);
  if (twice !== undefined)
    throw new EspalierError("ESPALIER_PLUGIN_INVALID", `plugin "${plugin.name}" declares ${twice} twice`);
  return {
    name: plugin.name,
    contract: plugin.contract,
    strategies: plugin.strategies ?? [],
    presets: plugin.presets ?? [],
  };
}
