import type { TensorInfo } from "@tensorflow/tfjs";
import { aten } from "../../aten.js";
import { type Kernel, kernel } from "../../kernel.js";

const embeddingBackward = aten("embedding_dense_backward");
/** No row is left out of the gradient. */
const NO_PADDING = -1;

/** dy [rows, hidden], indices [rows] → [vocabulary, hidden]: the sum of the rows that used each entry */
const embeddingGrad = kernel<{ dy: TensorInfo; indices: TensorInfo }, { vocabulary: number }>(
  "EspalierEmbeddingGrad",
  (frame, { dy, indices }, { vocabulary }) =>
    frame.output(
      frame.call(
        embeddingBackward,
        frame.tensor(dy),
        frame.tensorAs(indices, "int32"),
        vocabulary,
        NO_PADDING,
        false,
      ),
      "float32",
    ),
);

/** The gradient of looking rows up in a table. */
export const embeddingKernels: readonly Kernel[] = [embeddingGrad];
