import {
  type AllAttrs,
  type AllInputs,
  type ArgMaxAttrs,
  type ArgMaxInputs,
  backend_util,
  type CumsumAttrs,
  type CumsumInputs,
  type DataType,
  type MaxAttrs,
  type MaxInputs,
  type MinAttrs,
  type SumAttrs,
  type SumInputs,
  type TensorInfo,
  util,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { type AtenOperator, aten } from "../aten.js";
import { nativeType } from "../dtypes.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";

const operators = {
  sum: aten("sum.dim_IntList"),
  mean: aten("mean.dim"),
  amax: aten("amax"),
  amin: aten("amin"),
  prod: aten("prod.dim_int"),
  all: aten("all.dims"),
  any: aten("any.dims"),
  argmax: aten("argmax"),
  argmin: aten("argmin"),
  isNan: aten("isnan"),
  maskedFill: aten("masked_fill.Scalar"),
  cumsum: aten("cumsum"),
  cumprod: aten("cumprod"),
  flip: aten("flip"),
  slice: aten("slice.Tensor"),
  full: aten("full"),
  cat: aten("cat"),
};

interface Reduced {
  readonly axes: number[];
  /** The result's shape. */
  readonly shape: number[];
  /** How many elements each result is made of. */
  readonly size: number;
}

function reduced(x: TensorInfo, axis: number | number[], keepDims: boolean): Reduced {
  const axes = util.parseAxisParam(axis, x.shape);
  const [outShape, reduceShape] = backend_util.computeOutAndReduceShapes(x.shape, axes);
  const shape = keepDims ? backend_util.expandShapeToKeepDim(outShape, axes) : outShape;
  return { axes, shape, size: util.sizeFromShape(reduceShape) };
}

/** A dtype to sum in: booleans are counted. */
function counting(dtype: DataType): DataType {
  return dtype === "bool" ? "int32" : dtype;
}

const sum = kernel<SumInputs, SumAttrs>("Sum", (frame, { x }, { axis, keepDims }) => {
  const dtype = counting(x.dtype);
  const { axes } = reduced(x, axis, keepDims);
  const value = frame.tensorAs(x, dtype);
  // An empty list of axes would mean all of them to ATen.
  if (axes.length === 0) return frame.output(value, dtype);
  return frame.output(frame.call(operators.sum, value, axes, keepDims, nativeType(dtype)), dtype);
});

const mean = kernel<SumInputs, SumAttrs>("Mean", (frame, { x }, { axis, keepDims }) => {
  const { axes } = reduced(x, axis, keepDims);
  const value = frame.tensorAs(x, "float32");
  if (axes.length === 0) return frame.output(value, "float32");
  return frame.output(frame.call(operators.mean, value, axes, keepDims), "float32");
});

/** TensorFlow.js names the axes differently for its two extrema. */
type ExtremumAttrs = Partial<MaxAttrs> & Partial<MinAttrs>;

function extremum(name: string, operator: AtenOperator, ofNothing: number): Kernel {
  return kernel<MaxInputs, ExtremumAttrs>(name, (frame, { x }, attrs) => {
    const { keepDims = false } = attrs;
    const { axes, shape, size } = reduced(x, (attrs.reductionIndices ?? attrs.axis) as number[], keepDims);
    const value = frame.tensor(x);
    if (axes.length === 0) return frame.output(value, x.dtype);
    if (size === 0 && x.dtype === "float32") {
      return frame.output(
        frame.call(operators.full, shape, ofNothing, "float32", undefined, frame.backend.device),
        x.dtype,
      );
    }
    return frame.output(frame.call(operator, value, axes, keepDims), x.dtype);
  });
}

const prod = kernel<SumInputs, SumAttrs>("Prod", (frame, { x }, { axis, keepDims }) => {
  const dtype = counting(x.dtype);
  const { axes } = reduced(x, axis, keepDims);
  let value = frame.tensorAs(x, dtype);
  // ATen multiplies along one axis at a time: from the last, so that the others keep their numbers.
  for (const one of [...axes].sort((left, right) => right - left)) {
    value = frame.call(operators.prod, value, one, keepDims, nativeType(dtype));
  }
  return frame.output(value, dtype);
});

function quantifier(name: string, operator: AtenOperator): Kernel {
  return kernel<AllInputs, AllAttrs>(name, (frame, { x }, { axis, keepDims }) => {
    const { axes } = reduced(x, axis, keepDims);
    const value = frame.tensorAs(x, "bool");
    if (axes.length === 0) return frame.output(value, "bool");
    return frame.output(frame.call(operator, value, axes, keepDims), "bool");
  });
}

/** Where the extremum is. `worst` takes the place of NaN, which is never an extremum to TensorFlow.js. */
function position(name: string, operator: AtenOperator, worst: number): Kernel {
  return kernel<ArgMaxInputs, ArgMaxAttrs>(name, (frame, { x }, { axis }) => {
    let value = x.dtype === "bool" ? frame.tensorAs(x, "int32") : frame.tensor(x);
    if (x.dtype === "float32") {
      value = frame.call(operators.maskedFill, value, frame.call(operators.isNan, value), worst);
    }
    const [first = 0] = util.parseAxisParam(axis, x.shape);
    return frame.output(frame.call(operator, value, first, false), "int32");
  });
}

function scan(name: string, operator: AtenOperator, neutral: number): Kernel {
  return kernel<CumsumInputs, CumsumAttrs>(name, (frame, { x }, { axis, exclusive, reverse }) => {
    const dtype = counting(x.dtype);
    const [along = 0] = util.parseAxisParam(axis, x.shape);
    const type = nativeType(dtype);
    const length = x.shape[along] ?? 0;
    const turn = (tensor: NativeTensor) => (reverse ? frame.call(operators.flip, tensor, [along]) : tensor);
    let scanned = frame.call(operator, turn(frame.tensorAs(x, dtype)), along, type);
    if (exclusive && length > 0) scanned = shifted(frame, scanned, x.shape, along, neutral, type);
    return frame.output(turn(scanned), dtype);
  });
}

/** Each element one place further, the neutral element first. */
function shifted(
  frame: Frame,
  tensor: NativeTensor,
  shape: readonly number[],
  axis: number,
  neutral: number,
  type: string,
): NativeTensor {
  const first = shape.map((size, index) => (index === axis ? 1 : size));
  const start = frame.call(operators.full, first, neutral, type, undefined, frame.backend.device);
  const rest = frame.call(operators.slice, tensor, axis, 0, (shape[axis] ?? 1) - 1, 1);
  return frame.call(operators.cat, [start, rest], axis);
}

/** Reductions along axes, and running sums and products. */
export const reductionKernels: readonly Kernel[] = [
  sum,
  mean,
  prod,
  extremum("Max", operators.amax, Number.NEGATIVE_INFINITY),
  extremum("Min", operators.amin, Number.POSITIVE_INFINITY),
  quantifier("All", operators.all),
  quantifier("Any", operators.any),
  position("ArgMax", operators.argmax, Number.NEGATIVE_INFINITY),
  position("ArgMin", operators.argmin, Number.POSITIVE_INFINITY),
  scan("Cumsum", operators.cumsum, 0),
  scan("Cumprod", operators.cumprod, 1),
];
