import {
  type BatchToSpaceNDAttrs,
  type BatchToSpaceNDInputs,
  backend_util,
  type DepthToSpaceAttrs,
  type DepthToSpaceInputs,
  type SpaceToBatchNDAttrs,
  type SpaceToBatchNDInputs,
  util,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";

const operators = {
  reshape: aten("reshape"),
  permute: aten("permute"),
  pad: aten("constant_pad_nd"),
  slice: aten("slice.Tensor"),
};

/** Takes the axes apart, reorders them and puts them together again. */
function rearranged(
  frame: Frame,
  tensor: NativeTensor,
  apart: number[],
  order: number[],
  together: number[],
): NativeTensor {
  const split = frame.call(operators.reshape, tensor, apart);
  return frame.call(operators.reshape, frame.call(operators.permute, split, order), together);
}

const spaceToBatch = kernel<SpaceToBatchNDInputs, SpaceToBatchNDAttrs>(
  "SpaceToBatchND",
  (frame, { x }, { blockShape, paddings }) => {
    const block = util.sizeFromShape(blockShape);
    const all = x.shape.map((_, axis) => paddings[axis - 1] ?? [0, 0]);
    const padded = frame.call(operators.pad, frame.tensor(x), [...all].reverse().flat(), 0);
    const shape = x.shape.map((size, axis) => size + (all[axis]?.[0] ?? 0) + (all[axis]?.[1] ?? 0));
    const apart = backend_util.getReshaped(shape, blockShape, block, false);
    const order = backend_util.getPermuted(apart.length, blockShape.length, false);
    const together = backend_util.getReshapedPermuted(shape, blockShape, block, false);
    return frame.output(rearranged(frame, padded, apart, order, together), x.dtype);
  },
);

const batchToSpace = kernel<BatchToSpaceNDInputs, BatchToSpaceNDAttrs>(
  "BatchToSpaceND",
  (frame, { x }, { blockShape, crops }) => {
    const block = util.sizeFromShape(blockShape);
    const apart = backend_util.getReshaped(x.shape, blockShape, block);
    const order = backend_util.getPermuted(apart.length, blockShape.length);
    const together = backend_util.getReshapedPermuted(x.shape, blockShape, block);
    let result = rearranged(frame, frame.tensor(x), apart, order, together);
    crops.forEach(([before = 0, after = 0], index) => {
      const end = (together[index + 1] ?? 0) - after;
      result = frame.call(operators.slice, result, index + 1, before, end, 1);
    });
    return frame.output(result, x.dtype);
  },
);

const depthToSpace = kernel<DepthToSpaceInputs, DepthToSpaceAttrs>(
  "DepthToSpace",
  (frame, { x }, { blockSize, dataFormat }) => {
    if (dataFormat !== "NHWC") {
      throw new Error(`DepthToSpace: only the data format NHWC is supported, got ${dataFormat}`);
    }
    const [batch = 0, height = 0, width = 0, depth = 0] = x.shape;
    const rest = depth / (blockSize * blockSize);
    const apart = [batch, height, width, blockSize, blockSize, rest];
    const together = [batch, height * blockSize, width * blockSize, rest];
    return frame.output(rearranged(frame, frame.tensor(x), apart, [0, 1, 3, 2, 4, 5], together), x.dtype);
  },
);

/** Exchanges of batch, depth and space by blocks. */
export const blockKernels: readonly Kernel[] = [spaceToBatch, batchToSpace, depthToSpace];
