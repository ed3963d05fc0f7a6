import {
  type FillAttrs,
  type LinSpaceAttrs,
  type OneHotAttrs,
  type OneHotInputs,
  type RangeAttrs,
  type TensorInfo,
  type UnaryInputs,
  util,
} from "@tensorflow/tfjs";
import { aten } from "../aten.js";
import { nativeType } from "../dtypes.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";

const operators = {
  full: aten("full"),
  linspace: aten("linspace"),
  arange: aten("arange.start"),
  equal: aten("eq.Tensor"),
  unsqueeze: aten("unsqueeze"),
  where: aten("where.Scalar"),
};

function filled(
  frame: Frame,
  shape: readonly number[],
  value: number,
  dtype: TensorInfo["dtype"],
): TensorInfo {
  const { device } = frame.backend;
  return frame.output(frame.call(operators.full, shape, value, nativeType(dtype), undefined, device), dtype);
}

const fill = kernel<unknown, FillAttrs>("Fill", (frame, _, { shape, value, dtype }) => {
  const type = dtype ?? util.inferDtype(value);
  if (type === "string" || typeof value === "string") {
    const encoded = typeof value === "string" ? util.encodeString(value) : value;
    const strings = new Array(util.sizeFromShape(shape)).fill(encoded) as Uint8Array[];
    return { dataId: frame.backend.write(strings, shape, "string"), shape, dtype: "string" };
  }
  // `full` keeps a fraction that an int32 tensor cannot hold from being accepted silently: cut it as a cast does.
  const number = Number(value);
  return filled(frame, shape, type === "int32" ? Math.trunc(number) : number, type);
});

function constantLike(name: string, value: number): Kernel {
  return kernel<UnaryInputs>(name, (frame, { x }) => {
    if (x.dtype === "string") {
      if (value !== 0) throw new Error(`${name} is not supported for string tensors`);
      const strings = Array.from({ length: util.sizeFromShape(x.shape) }, () => util.encodeString(""));
      return { dataId: frame.backend.write(strings, x.shape, "string"), shape: x.shape, dtype: "string" };
    }
    return filled(frame, x.shape, value, x.dtype);
  });
}

const range = kernel<unknown, RangeAttrs>("Range", (frame, _, { start, stop, step, dtype }) => {
  const type = dtype === "int32" ? "int32" : "float32";
  const runsBackwards = (start < stop && step < 0) || (stop < start && step > 1);
  const length = start === stop || runsBackwards ? 0 : Math.abs(Math.ceil((stop - start) / step));
  const towards = stop < start && step === 1 ? -1 : step;
  const values = type === "int32" ? new Int32Array(length) : new Float32Array(length);
  for (let index = 0; index < length; index++) values[index] = start + index * towards;
  return frame.output(frame.constant(values, [length], type), type);
});

const linSpace = kernel<unknown, LinSpaceAttrs>("LinSpace", (frame, _, { start, stop, num }) => {
  const { device } = frame.backend;
  return frame.output(
    frame.call(operators.linspace, start, stop, num, "float32", undefined, device),
    "float32",
  );
});

const oneHot = kernel<OneHotInputs, OneHotAttrs>("OneHot", (frame, { indices }, attrs) => {
  const { depth, onValue, offValue, dtype } = attrs;
  const { device } = frame.backend;
  const classes = frame.call(operators.arange, 0, depth, "int32", undefined, device);
  const column = frame.call(operators.unsqueeze, frame.tensorAs(indices, "int32"), -1);
  const hot = frame.call(operators.equal, column, classes);
  return frame.output(frame.call(operators.where, hot, onValue, offValue), dtype);
});

/** Tensors made from numbers alone. */
export const creationKernels: readonly Kernel[] = [
  fill,
  constantLike("ZerosLike", 0),
  constantLike("OnesLike", 1),
  range,
  linSpace,
  oneHot,
];
