import {
  backend_util,
  type CastAttrs,
  type ConcatAttrs,
  type ExpandDimsAttrs,
  type ExpandDimsInputs,
  type PackAttrs,
  type ReshapeAttrs,
  type SplitVAttrs,
  type SplitVInputs,
  type TensorInfo,
  type TileAttrs,
  type TransposeAttrs,
  type UnaryInputs,
  type UnpackAttrs,
  type UnpackInputs,
  util,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";

const operators = {
  reshape: aten("reshape"),
  permute: aten("permute"),
  cat: aten("cat"),
  stack: aten("stack"),
  unbind: aten("unbind.int"),
  split: aten("split_with_sizes"),
  tile: aten("tile"),
  real: aten("real"),
  imag: aten("imag"),
  complex: aten("complex"),
  clone: aten("clone"),
};

/** A view under another shape; strided data that cannot be viewed so is copied once, here, instead of at each use. */
function reshaped(frame: Frame, x: TensorInfo, shape: number[]): TensorInfo {
  if (x.dtype === "string") return frame.share(x, shape);
  const { tensor } = frame.backend.stored(x.dataId);
  if (tensor === null || frame.backend.addon.isContiguous(tensor)) return frame.share(x, shape);
  return frame.output(frame.call(operators.reshape, frame.tensor(x), shape), x.dtype);
}

const identity = kernel<UnaryInputs>("Identity", (frame, { x }) => frame.share(x));

const reshape = kernel<{ tensor?: TensorInfo; x?: TensorInfo }, ReshapeAttrs>(
  "Reshape",
  (frame, inputs, { shape }) => {
    const x = (inputs.x ?? inputs.tensor) as TensorInfo;
    const size = util.sizeFromShape(x.shape);
    const inferred = util.inferFromImplicitShape(shape, size);
    util.assert(
      size === util.sizeFromShape(inferred),
      () => `The new shape (${inferred}) must have the same number of elements as the old (${x.shape})`,
    );
    return reshaped(frame, x, inferred);
  },
);

const expandDims = kernel<ExpandDimsInputs, ExpandDimsAttrs>("ExpandDims", (frame, { input }, { dim }) => {
  const shape = [...input.shape];
  if (dim < 0) {
    const rank = input.shape.length;
    util.assert(-(rank + 1) <= dim, () => `Axis must be in the interval [${-(rank + 1)}, ${rank}]`);
    shape.splice(rank + dim + 1, 0, 1);
  } else {
    shape.splice(dim, 0, 1);
  }
  return reshaped(frame, input, shape);
});

const transpose = kernel<UnaryInputs, TransposeAttrs>(
  "Transpose",
  (frame, { x }, { perm }) => frame.output(frame.call(operators.permute, frame.tensor(x), perm), x.dtype),
  { movesData: true },
);

const concat = kernel<TensorInfo[], ConcatAttrs>(
  "Concat",
  (frame, inputs, { axis }) => {
    const [along = 0] = util.parseAxisParam(axis, inputs[0]?.shape ?? []);
    const shapes = inputs.map(({ shape }) => shape);
    backend_util.assertParamsConsistent(shapes, along);
    const dtype = inputs.map((input) => input.dtype).reduce((a, b) => backend_util.upcastType(a, b));
    const tensors = inputs.map((input) => frame.tensorAs(input, dtype));
    return frame.output(frame.call(operators.cat, tensors, along), dtype);
  },
  { movesData: true },
);

const pack = kernel<TensorInfo[], PackAttrs>(
  "Pack",
  (frame, inputs, { axis }) => {
    const [first] = inputs as [TensorInfo];
    for (const { shape, dtype } of inputs) {
      util.assertShapesMatch(first.shape, shape, "All tensors passed to stack must have matching shapes");
      util.assert(first.dtype === dtype, () => "All tensors passed to stack must have matching dtypes");
    }
    const tensors = inputs.map((input) => frame.tensor(input));
    return frame.output(frame.call(operators.stack, tensors, axis), first.dtype);
  },
  { movesData: true },
);

const unpack = kernel<UnpackInputs, UnpackAttrs>(
  "Unpack",
  (frame, { value }, { axis }) => {
    const along = axis < 0 ? axis + value.shape.length : axis;
    const parts = frame.callList(operators.unbind, frame.tensor(value), along);
    return parts.map((part) => frame.output(part as NativeTensor, value.dtype));
  },
  { movesData: true },
);

const splitV = kernel<SplitVInputs, SplitVAttrs>(
  "SplitV",
  (frame, { x }, { numOrSizeSplits, axis }) => {
    const [along = 0] = util.parseAxisParam(axis, x.shape);
    const sizes = backend_util.prepareSplitSize(x as never, numOrSizeSplits, along);
    const parts = frame.callList(operators.split, frame.tensor(x), sizes, along);
    return parts.map((part) => frame.output(part as NativeTensor, x.dtype));
  },
  { movesData: true },
);

const tile = kernel<UnaryInputs, TileAttrs>(
  "Tile",
  (frame, { x }, { reps }) => frame.output(frame.call(operators.tile, frame.tensor(x), reps), x.dtype),
  { movesData: true },
);

const cast = kernel<UnaryInputs, CastAttrs>("Cast", (frame, { x }, { dtype }) => {
  if (dtype === x.dtype) return frame.share(x);
  if (dtype === "string" || x.dtype === "string") {
    throw new Error(`Error in Cast: failed to cast ${x.dtype} to ${dtype}`);
  }
  const value = frame.tensor(x);
  const source = x.dtype === "complex64" ? frame.call(operators.real, value) : value;
  return frame.output(frame.cast(source, dtype), dtype);
});

const complex = kernel<{ real: TensorInfo; imag: TensorInfo }>("Complex", (frame, { real, imag }) =>
  frame.output(
    frame.call(operators.complex, frame.tensorAs(real, "float32"), frame.tensorAs(imag, "float32")),
    "complex64",
  ),
);

const real = kernel<{ input: TensorInfo }>("Real", (frame, { input }) =>
  frame.output(frame.call(operators.clone, frame.call(operators.real, frame.tensor(input))), "float32"),
);

const imag = kernel<{ input: TensorInfo }>("Imag", (frame, { input }) =>
  frame.output(frame.call(operators.clone, frame.call(operators.imag, frame.tensor(input))), "float32"),
);

const broadcastArgs = kernel<{ s0: TensorInfo; s1: TensorInfo }>("BroadcastArgs", (frame, { s0, s1 }) => {
  const dimensions = (info: TensorInfo) => Array.from(frame.backend.readSync(info.dataId) as Int32Array);
  const shape = backend_util.assertAndGetBroadcastShape(dimensions(s0), dimensions(s1));
  return frame.output(frame.constant(shape, [shape.length], "int32"), "int32");
});

/** Other shapes, orders, dtypes and groupings of the same elements. */
export const shapeKernels: readonly Kernel[] = [
  identity,
  reshape,
  expandDims,
  transpose,
  concat,
  pack,
  unpack,
  splitV,
  tile,
  cast,
  complex,
  real,
  imag,
  broadcastArgs,
];
