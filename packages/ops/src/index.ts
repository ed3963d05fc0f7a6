export type { AdamWHyperparameters } from "./adamw.js";
export { adamW } from "./adamw.js";
export type { AttentionOptions } from "./attention.js";
export { attention, packedAttention, paddingMask } from "./attention.js";
export { backpropagate } from "./backpropagation.js";
export { dropout } from "./dropout.js";
export { addPositions, addRow, embedding, gatherRows } from "./embedding.js";
export type { GeluApproximation } from "./gelu.js";
export { gelu } from "./gelu.js";
export { clipByGlobalNorm, globalNorm } from "./gradient-norm.js";
export { indexedSum } from "./indexed-sum.js";
export { withoutFusedKernels } from "./kernel.js";
export { layerNorm } from "./layer-norm.js";
export type {
  DropoutOptions,
  FeedForwardOptions,
  NormParameters,
  PartOptions,
} from "./layer-parts.js";
export { feedForward, normLinear, residualLinear, residualLinearNorm } from "./layer-parts.js";
export type { LinearParameters, WeightLayout } from "./linear.js";
export { linear, stackedLinear } from "./linear.js";
export { supportsPrecision } from "./precision.js";
export { recomputed } from "./recomputation.js";
export { addResidual } from "./residual.js";
export { softmaxCrossEntropy } from "./softmax-cross-entropy.js";
