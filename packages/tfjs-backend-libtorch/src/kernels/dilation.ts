import {
  backend_util,
  type Dilation2DAttrs,
  type Dilation2DBackpropFilterInputs,
  type Dilation2DInputs,
  type TensorInfo,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";
import { assertShape, isEmpty, type Window, window2d } from "./window.js";

const operators = {
  pad: aten("constant_pad_nd"),
  slice: aten("slice.Tensor"),
  select: aten("select.int"),
  reshape: aten("reshape"),
  add: aten("add.Tensor"),
  addInPlace: aten("add_.Tensor"),
  stack: aten("stack"),
  max: aten("max.dim"),
  equal: aten("eq.Scalar"),
  mul: aten("mul.Tensor"),
  sum: aten("sum.dim_IntList"),
  full: aten("full"),
};

interface Dilation {
  readonly window: Window;
  readonly inShape: readonly number[];
  readonly outShape: readonly number[];
  /** [before, after] of both axes; negative numbers cut off. */
  readonly margins: readonly (readonly [number, number])[];
}

function dilationOf(x: TensorInfo, filter: TensorInfo, attrs: Dilation2DAttrs): Dilation {
  const info = backend_util.computeDilation2DInfo(
    x.shape as [number, number, number, number],
    filter.shape as [number, number, number],
    attrs.strides,
    attrs.pad,
    "NHWC",
    attrs.dilations,
  );
  const window = window2d(info);
  const margins = window.before.map((before, axis) => {
    const reach = ((window.size[axis] ?? 1) - 1) * (window.dilations[axis] ?? 1) + 1;
    const needed = ((window.output[axis] ?? 0) - 1) * (window.strides[axis] ?? 1) + reach;
    return [before, needed - (window.input[axis] ?? 0) - before] as const;
  });
  return { window, inShape: info.inShape, outShape: info.outShape, margins };
}

/** Each place of the window in turn, row by row. */
function places({ size }: Window): (readonly [number, number])[] {
  const [rows = 0, columns = 0] = size;
  return Array.from({ length: rows * columns }, (_, at) => [Math.floor(at / columns), at % columns] as const);
}

/** What the given place of the window sees of an input that was padded: a view of the output's shape. */
function seen(frame: Frame, input: NativeTensor, window: Window, place: readonly [number, number]) {
  return place.reduce<NativeTensor>((view, offset, axis) => {
    const start = offset * (window.dilations[axis] ?? 1);
    const stride = window.strides[axis] ?? 1;
    const end = start + ((window.output[axis] ?? 0) - 1) * stride + 1;
    return frame.call(operators.slice, view, axis + 1, start, end, stride);
  }, input);
}

function zeros(frame: Frame, shape: readonly number[]): NativeTensor {
  return frame.call(operators.full, shape, 0, "float32", undefined, frame.backend.device);
}

/** The largest of input plus filter over the window's places, and which place it was. */
function largest(frame: Frame, x: TensorInfo, filter: TensorInfo, { window, margins }: Dilation) {
  const flat = [0, 0, ...[...margins].reverse().flat()];
  const input = frame.call(operators.pad, frame.tensorAs(x, "float32"), flat, Number.NEGATIVE_INFINITY);
  const weights = frame.tensorAs(filter, "float32");
  const raised = places(window).map((place) => {
    const row = frame.call(operators.select, weights, 0, place[0]);
    const weight = frame.call(operators.select, row, 0, place[1]);
    return frame.call(operators.add, seen(frame, input, window, place), weight);
  });
  const [values, winners] = frame.callList(operators.max, frame.call(operators.stack, raised, 0), 0, false);
  return { values: values as NativeTensor, winners: winners as NativeTensor };
}

/** dy where place number `at` of the window was the largest, else 0. */
function share(frame: Frame, dy: NativeTensor, winners: NativeTensor, at: number): NativeTensor {
  return frame.call(operators.mul, dy, frame.cast(frame.call(operators.equal, winners, at), "float32"));
}

const dilation2d = kernel<Dilation2DInputs, Dilation2DAttrs>("Dilation2D", (frame, { x, filter }, attrs) => {
  const given = dilationOf(x, filter, attrs);
  if (isEmpty(given.window)) return frame.output(zeros(frame, given.outShape), x.dtype);
  return frame.output(largest(frame, x, filter, given).values, x.dtype);
});

const inputGradient = kernel<Dilation2DBackpropFilterInputs, Dilation2DAttrs>(
  "Dilation2DBackpropInput",
  (frame, { x, filter, dy }, attrs) => {
    const given = dilationOf(x, filter, attrs);
    assertShape(frame.kernelName, "dy", dy.shape, given.outShape);
    if (isEmpty(given.window)) return frame.output(zeros(frame, given.inShape), x.dtype);
    const { winners } = largest(frame, x, filter, given);
    const rate = frame.tensorAs(dy, "float32");
    const [batch = 0, height = 0, width = 0, channels = 0] = given.inShape;
    const [[top, bottom] = [0, 0], [left, right] = [0, 0]] = given.margins;
    const full = zeros(frame, [batch, height + top + bottom, width + left + right, channels]);
    places(given.window).forEach((place, at) => {
      const target = seen(frame, full, given.window, place);
      frame.callInPlace(operators.addInPlace, target, share(frame, rate, winners, at));
    });
    const gradient = frame.call(operators.pad, full, [0, 0, -left, -right, -top, -bottom], 0);
    return frame.output(gradient, x.dtype);
  },
);

const filterGradient = kernel<Dilation2DBackpropFilterInputs, Dilation2DAttrs>(
  "Dilation2DBackpropFilter",
  (frame, { x, filter, dy }, attrs) => {
    const given = dilationOf(x, filter, attrs);
    assertShape(frame.kernelName, "dy", dy.shape, given.outShape);
    if (isEmpty(given.window)) return frame.output(zeros(frame, filter.shape), filter.dtype);
    const { winners } = largest(frame, x, filter, given);
    const rate = frame.tensorAs(dy, "float32");
    const sums = places(given.window).map((_, at) =>
      frame.call(operators.sum, share(frame, rate, winners, at), [0, 1, 2]),
    );
    const gradient = frame.call(operators.reshape, frame.call(operators.stack, sums, 0), filter.shape);
    return frame.output(gradient, filter.dtype);
  },
);

/** Grey-scale morphological dilation with its gradients. */
export const dilationKernels: readonly Kernel[] = [dilation2d, inputGradient, filterGradient];
