import {
  type FlipLeftRightInputs,
  type MirrorPadAttrs,
  type PadV2Attrs,
  type ReverseAttrs,
  type SliceAttrs,
  type StridedSliceAttrs,
  slice_util,
  type TensorInfo,
  type UnaryInputs,
  util,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";

const operators = {
  slice: aten("slice.Tensor"),
  flip: aten("flip"),
  reshape: aten("reshape"),
  pad: aten("constant_pad_nd"),
  indexSelect: aten("index_select"),
};

/** A part of each axis, as a view. */
function narrowed(
  frame: Frame,
  tensor: NativeTensor,
  shape: readonly number[],
  begin: readonly number[],
  size: readonly number[],
): NativeTensor {
  let view = tensor;
  for (let axis = 0; axis < shape.length; axis++) {
    const from = begin[axis] ?? 0;
    const count = size[axis] ?? 0;
    if (from === 0 && count === shape[axis]) continue;
    view = frame.call(operators.slice, view, axis, from, from + count, 1);
  }
  return view;
}

const slice = kernel<UnaryInputs, SliceAttrs>(
  "Slice",
  (frame, { x }, { begin, size }) => {
    const [from = [], count = []] = slice_util.parseSliceParams(x as never, begin, size);
    slice_util.assertParamsValid(x, from, count);
    return frame.output(narrowed(frame, frame.tensor(x), x.shape, from, count), x.dtype);
  },
  { movesData: true },
);

/** Steps through one axis; ATen steps forwards only, so a backward step is a forward one through the flipped axis. */
function stepped(
  frame: Frame,
  tensor: NativeTensor,
  axis: number,
  begin: number,
  stride: number,
  count: number,
  length: number,
) {
  const flipped = stride < 0 ? frame.call(operators.flip, tensor, [axis]) : tensor;
  const from = stride < 0 ? length - 1 - begin : begin;
  const step = Math.abs(stride);
  return frame.call(operators.slice, flipped, axis, from, from + (count - 1) * step + 1, step);
}

const stridedSlice = kernel<UnaryInputs, StridedSliceAttrs>(
  "StridedSlice",
  (frame, { x }, attrs) => {
    const plan = slice_util.sliceInfo(
      x.shape,
      attrs.begin,
      attrs.end,
      attrs.strides,
      attrs.beginMask,
      attrs.endMask,
      attrs.ellipsisMask,
      attrs.newAxisMask,
      attrs.shrinkAxisMask,
    );
    let view = frame.tensor(x);
    if (plan.isIdentity) return frame.output(frame.call(operators.reshape, view, plan.finalShape), x.dtype);
    const { begin, end, strides } = plan;
    const counts = slice_util.computeOutShape(begin, end, strides);
    for (let axis = 0; axis < x.shape.length; axis++) {
      const count = Math.max(counts[axis] ?? 0, 0);
      if (count === 0) view = frame.call(operators.slice, view, axis, 0, 0, 1);
      else view = stepped(frame, view, axis, begin[axis] ?? 0, strides[axis] ?? 1, count, x.shape[axis] ?? 0);
    }
    return frame.output(frame.call(operators.reshape, view, plan.finalShape), x.dtype);
  },
  { movesData: true },
);

const reverse = kernel<UnaryInputs, ReverseAttrs>(
  "Reverse",
  (frame, { x }, { dims }) => {
    const axes = util.parseAxisParam(dims, x.shape);
    if (x.shape.length === 0) return frame.share(x);
    return frame.output(frame.call(operators.flip, frame.tensor(x), axes), x.dtype);
  },
  { movesData: true },
);

const flipLeftRight = kernel<FlipLeftRightInputs>("FlipLeftRight", (frame, { image }) =>
  frame.output(frame.call(operators.flip, frame.tensor(image), [2]), image.dtype),
);

const padV2 = kernel<UnaryInputs, PadV2Attrs>("PadV2", (frame, { x }, { paddings, constantValue }) => {
  // ATen takes the paddings of the last axis first.
  const flat = [...paddings].reverse().flat();
  return frame.output(frame.call(operators.pad, frame.tensor(x), flat, constantValue), x.dtype);
});

/** The index in an axis of `length` that position `at`, counted from its start, mirrors. */
function mirrored(at: number, length: number, offset: number): number {
  if (at < 0) return -at - 1 + offset;
  if (at >= length) return 2 * length - 1 - at - offset;
  return at;
}

const mirrorPad = kernel<UnaryInputs, MirrorPadAttrs>(
  "MirrorPad",
  (frame, { x }: { x: TensorInfo }, { paddings, mode }) => {
    const offset = mode === "reflect" ? 1 : 0;
    let padded = frame.tensor(x);
    paddings.forEach(([before, after], axis) => {
      const length = x.shape[axis] ?? 0;
      if (before === 0 && after === 0) return;
      const indices = Int32Array.from({ length: before + length + after }, (_, at) =>
        mirrored(at - before, length, offset),
      );
      padded = frame.call(
        operators.indexSelect,
        padded,
        axis,
        frame.constant(indices, [indices.length], "int32"),
      );
    });
    return frame.output(padded, x.dtype);
  },
);

/** Parts and extensions of a tensor along its axes. */
export const slicingKernels: readonly Kernel[] = [
  slice,
  stridedSlice,
  reverse,
  flipLeftRight,
  padV2,
  mirrorPad,
];
