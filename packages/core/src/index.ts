export { canonicalJson } from "./canonical-json.js";
export { composeGrowthMaps, momentsForWidth, planWidthAndDepth } from "./compose-growth.js";
export type { ErrorDetails, ExitCode } from "./errors.js";
export { EspalierError, suggest, UsageError, unknownName } from "./errors.js";
export type { ForeignTensor } from "./foreign-tensor.js";
export type {
  AxisMap,
  GrowthMap,
  GrowthTerm,
  MomentPolicy,
  ParameterGrowth,
  SlotSource,
  StepCountSource,
} from "./growth-map.js";
export { copyOf, isCopyOf, momentPolicies, withMoments } from "./growth-map.js";
export { hashGrowthMap } from "./growth-map-hash.js";
export { deserializeGrowthMap, serializeGrowthMap } from "./growth-map-json.js";
export { describeGrowthMap } from "./growth-map-text.js";
export type { Json, JsonObject } from "./json.js";
export { planLayers } from "./layer-expansion.js";
export type { LayerMap, LayerMapping } from "./layer-map.js";
export { checkLayerMap, identityLayerMap } from "./layer-map.js";
export type {
  AxisRole,
  ComputeOptions,
  ForwardOptions,
  Initializer,
  MemoryCost,
  ModelDescription,
  ModelFamily,
  ModelInput,
  ModelPart,
  ParameterMap,
  ParameterPlace,
  ParameterSpec,
  Precision,
  StepCost,
  StepLoad,
} from "./model-family.js";
export type {
  Plugin,
  Preset,
  Services,
  StrategyDeclaration,
  StrategyKind,
  StrategyKinds,
  StrategyName,
} from "./plugin.js";
export { definePlugin, strategy } from "./plugin.js";
export type { RandomStream } from "./random-stream.js";
export { philox4x32, stream } from "./random-stream.js";
export type { ModelConfig, ModelShape } from "./shape.js";
export { checkShape, formatShape, sameShape, shapeAxes, shapeOf } from "./shape.js";
export { flopsOfStep } from "./step-flops.js";
export type {
  DepthInput,
  DepthSampler,
  Expander,
  GrowthInput,
  GrowthSchedule,
  GrowthStage,
  Progress,
  StepDepth,
  Strategy,
  TrainingBudget,
  WidthOperator,
} from "./strategy.js";
export { serviceTokens, tokens } from "./tokens.js";
export type {
  Corpus,
  LearningRatePoint,
  LearningRateSchedule,
  Objective,
  Optimizer,
  ParameterState,
  ParameterUpdate,
  PreparedBatch,
  SequenceData,
  Split,
  TokenizerInfo,
  TrainingParameters,
} from "./training.js";
export type { AxesOf, AxisUse, UnitMaps } from "./width-axes.js";
export { axisMaps, copyCounts, isGrowing, newEntries } from "./width-axes.js";
export { checkWidth, copied, planWidth, type WidthMoments, widthMoments } from "./width-expansion.js";
