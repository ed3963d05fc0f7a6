export {
  type Checks,
  configOfShape,
  deeplyFrozen,
  progressAt,
  type Skips,
  shapeOfDepth,
  withoutChanceAndTime,
} from "./checks.js";
export { chiSquare, chiSquareLimit } from "./chi-square.js";
export { createStrategy, testServices } from "./create-strategy.js";
export {
  describeExpander,
  type ExpanderCheck,
  type ExpanderSuiteOptions,
  expanderChecks,
  type TriedGrowth,
} from "./expander-suite.js";
export {
  describeLayerMapping,
  type LayerMappingCheck,
  type LayerMappingSuiteOptions,
  layerMappingChecks,
} from "./layer-mapping-suite.js";
export { changeOfLogits, perturbedParameters, testInput } from "./measure.js";
export { describePlugin, type PluginCheck, type PluginSuiteOptions, pluginChecks } from "./plugin-suite.js";
export { residualFamily } from "./residual-family.js";
export {
  describeSampler,
  type SamplerCheck,
  type SamplerSuiteOptions,
  samplerChecks,
} from "./sampler-suite.js";
export {
  describeSchedule,
  type ScheduleCheck,
  type ScheduleSuiteOptions,
  scheduleChecks,
} from "./schedule-suite.js";
export type { WidthOperatorCheck, WidthOperatorSuiteOptions } from "./width-operator-suite.js";
export { describeWidthOperator, widthGrowths, widthOperatorChecks } from "./width-operator-suite.js";
