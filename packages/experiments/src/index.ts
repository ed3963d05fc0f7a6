export { tokensPerStep, trainingBudget } from "./budget.js";
export type { LoadedPlugin, PluginOrigin, PluginPlace } from "./find-plugins.js";
export type { LoadedDefinition } from "./load.js";
export { checkDefinition, loadDefinition } from "./load.js";
export type { Lock, LockedSource } from "./lock.js";
export { changedKeys, definitionHash, refuseChangedDefinition, resolvedDefinition } from "./lock.js";
export { parseAssignment, parseOverride } from "./overrides.js";
export type { Plan, PlannedStage } from "./plan.js";
export { predictPlan } from "./plan.js";
export type { NamedPlugins, PluginSearch, RegisteredStrategy } from "./registry.js";
export { kindNames, PluginRegistry } from "./registry.js";
export type {
  Experiment,
  PlanningStrategies,
  ResolveSources,
  SourceModel,
  Start,
  StrategyChoices,
} from "./resolve.js";
export { plannedServices, planningStrategies, resolveExperiment } from "./resolve.js";
export type { Definition, DefinitionInput, StrategyReference } from "./schema.js";
export { defineExperiment, definitionJsonSchema, definitionSchema } from "./schema.js";
export { schemaError } from "./schema-errors.js";
export type { DefinitionSource } from "./source.js";
export { readDefinition } from "./source.js";
export type { Reference, StrategyChoice } from "./strategy-choice.js";
export {
  chooseStrategy,
  createStrategy,
  describeChoice,
  splitReference,
  withPlaceAsync,
} from "./strategy-choice.js";
export { widthOperators } from "./width-operator.js";
