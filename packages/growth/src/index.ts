export { applyGrowthMap, type GrowthContext, growWeights, weightsOf } from "./apply-growth-map.js";
export { checkGrowthMap } from "./check-map.js";
export { type DepthPreservation, type ModelAtShape, measurePreservation } from "./measure-preservation.js";
export { disposeParameters, initializeParameters, initialWeight } from "./parameters.js";
