import type { TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { aten, ownOperator } from "../../aten.js";
import { type Frame, type Kernel, kernel } from "../../kernel.js";

const operators = {
  mask: ownOperator("dropout_mask"),
  empty: aten("empty_like"),
  bernoulli: aten("bernoulli_.float"),
  divide: aten("div_.Scalar"),
  mul: aten("mul.Tensor"),
};

/** ATen's number for "row after row". */
const CONTIGUOUS_FORMAT = 0;

interface DropoutAttributes {
  /** The probability of an element to become 0, in [0, 1). */
  rate: number;
  /** uint32 */
  seed: number;
  /** uint32: another mask of the same seed */
  offset: number;
}

/** Seed and offset as one seed; neither close pairs nor exchanged ones give the same. */
function combinedSeed(seed: number, offset: number): number {
  let hash = 0x9e3779b9 | 0;
  for (const word of [seed | 0, offset | 0]) {
    hash = Math.imul(hash ^ word, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return hash >>> 0;
}

/** The mask by ATen's generator, which is counter-based on a GPU: one of its own for each call, seeded anew. */
export function drawnMask(
  frame: Frame,
  like: NativeTensor,
  { rate, seed, offset }: DropoutAttributes,
): NativeTensor {
  const format = [undefined, undefined, undefined, CONTIGUOUS_FORMAT];
  const mask = frame.call(operators.empty, like, "float32", ...format);
  frame.callInPlace(operators.bernoulli, mask, 1 - rate, combinedSeed(seed, offset));
  frame.callInPlace(operators.divide, mask, 1 - rate);
  return mask;
}

/** x → [y, keepMask]: the mask is 0 or 1 / (1 - rate), y = x × mask. The same seed and offset give the same mask. */
const dropout = kernel<{ x: TensorInfo }, DropoutAttributes>("EspalierDropout", (frame, { x }, attrs) => {
  const { rate, seed, offset } = attrs;
  if (!(rate >= 0 && rate < 1)) throw new Error(`EspalierDropout: the rate must be in [0, 1), got ${rate}`);
  const value = frame.tensor(x);
  const mask =
    frame.backend.device === "cpu"
      ? frame.call(operators.mask, value, rate, seed, offset)
      : drawnMask(frame, value, attrs);
  return [frame.output(frame.call(operators.mul, value, mask), "float32"), frame.output(mask, "float32")];
});

const dropoutGrad = kernel<{ dy: TensorInfo; keepMask: TensorInfo }, { rate: number }>(
  "EspalierDropoutGrad",
  (frame, { dy, keepMask }) =>
    frame.output(frame.call(operators.mul, frame.tensor(dy), frame.tensor(keepMask)), "float32"),
);

/** Dropout by a seed, and its gradient. */
export const dropoutKernels: readonly Kernel[] = [dropout, dropoutGrad];
