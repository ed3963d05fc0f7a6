import type { Kernel } from "../kernel.js";
import { binaryKernels } from "./binary.js";
import { blockKernels } from "./blocks.js";
import { boxKernels } from "./boxes.js";
import { convolutionKernels } from "./convolution.js";
import { countingKernels } from "./counting.js";
import { creationKernels } from "./creation.js";
import { dilationKernels } from "./dilation.js";
import { accumulateKernels } from "./fused/accumulate.js";
import { attentionKernels } from "./fused/attention.js";
import { crossEntropyKernels } from "./fused/cross-entropy.js";
import { dropoutKernels } from "./fused/dropout.js";
import { embeddingKernels } from "./fused/embedding.js";
import { geluKernels } from "./fused/gelu.js";
import { indexedSumKernels } from "./fused/indexed-sum.js";
import { layerNormKernels } from "./fused/layer-norm.js";
import { layerPartKernels } from "./fused/layer-parts.js";
import { linearKernels } from "./fused/linear.js";
import { optimizerKernels } from "./fused/optimizer.js";
import { packedAttentionKernels } from "./fused/packed-attention.js";
import { indexingKernels } from "./indexing.js";
import { linearAlgebraKernels } from "./linear-algebra.js";
import { matmulKernels } from "./matmul.js";
import { normalizationKernels } from "./normalization.js";
import { poolingKernels } from "./pooling.js";
import { raggedKernels } from "./ragged.js";
import { reductionKernels } from "./reduction.js";
import { resizingKernels } from "./resizing.js";
import { samplingKernels } from "./sampling.js";
import { shapeKernels } from "./shape.js";
import { slicingKernels } from "./slicing.js";
import { sparseKernels } from "./sparse.js";
import { textKernels } from "./text.js";
import { unaryKernels } from "./unary.js";

/** Every kernel of the backend. */
export const kernels: readonly Kernel[] = [
  ...unaryKernels,
  ...binaryKernels,
  ...reductionKernels,
  ...creationKernels,
  ...shapeKernels,
  ...slicingKernels,
  ...indexingKernels,
  ...matmulKernels,
  ...normalizationKernels,
  ...countingKernels,
  ...blockKernels,
  ...linearAlgebraKernels,
  ...convolutionKernels,
  ...poolingKernels,
  ...boxKernels,
  ...raggedKernels,
  ...sparseKernels,
  ...textKernels,
  ...dilationKernels,
  ...samplingKernels,
  ...resizingKernels,
  ...linearKernels,
  ...layerPartKernels,
  ...layerNormKernels,
  ...geluKernels,
  ...attentionKernels,
  ...packedAttentionKernels,
  ...crossEntropyKernels,
  ...embeddingKernels,
  ...optimizerKernels,
  ...dropoutKernels,
  ...indexedSumKernels,
  ...accumulateKernels,
];
