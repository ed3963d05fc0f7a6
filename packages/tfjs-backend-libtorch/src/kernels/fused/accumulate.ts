import type { TensorInfo } from "@tensorflow/tfjs";
import { aten } from "../../aten.js";
import { type Kernel, kernel } from "../../kernel.js";
import { exclusive } from "./in-place.js";

const operators = { add: aten("add_.Tensor"), toType: aten("to.dtype") };

/** ATen's number of float32. */
const FLOAT32 = 6;

/**
 * sum += term, in place: gradients of a weight that is used several times. A sum that lies in half precision is made
 * float32 first: many small terms would be lost in it.
 */
const accumulate = kernel<{ sum: TensorInfo; term: TensorInfo }>(
  "EspalierAccumulate",
  (frame, { sum, term }) => {
    const { backend } = frame;
    let target = exclusive(frame, sum);
    if (backend.addon.describe(target).at(-1) !== FLOAT32) {
      const { tensor } = backend.stored(sum.dataId);
      backend.replace(sum.dataId, frame.release(frame.call(operators.toType, tensor, "float32")));
      target = frame.tensor(sum);
    }
    frame.callInPlace(operators.add, target, frame.tensor(term));
    return [];
  },
);

/** Sums of gradients. */
export const accumulateKernels: readonly Kernel[] = [accumulate];
