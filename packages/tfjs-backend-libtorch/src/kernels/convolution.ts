import {
  backend_util,
  type Conv2DAttrs,
  type Conv2DBackpropFilterAttrs,
  type Conv2DBackpropFilterInputs,
  type Conv2DBackpropInputAttrs,
  type Conv2DBackpropInputInputs,
  type Conv2DInputs,
  type Conv3DAttrs,
  type Conv3DBackpropFilterV2Attrs,
  type Conv3DBackpropFilterV2Inputs,
  type Conv3DBackpropInputV2Attrs,
  type Conv3DBackpropInputV2Inputs,
  type Conv3DInputs,
  type DepthwiseConv2dNativeAttrs,
  type DepthwiseConv2dNativeBackpropFilterAttrs,
  type DepthwiseConv2dNativeBackpropFilterInputs,
  type DepthwiseConv2dNativeBackpropInputAttrs,
  type DepthwiseConv2dNativeBackpropInputInputs,
  type DepthwiseConv2dNativeInputs,
  type FusedConv2DAttrs,
  type FusedConv2DInputs,
  type FusedDepthwiseConv2DAttrs,
  type FusedDepthwiseConv2DInputs,
  type TensorInfo,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";
import { activated } from "./activation.js";
import {
  assertShape,
  channelsFirst,
  channelsLast,
  isEmpty,
  padded,
  paddingOf,
  reach,
  unpadded,
  type Window,
  window2d,
  window3d,
  zeros,
} from "./window.js";

const operators = {
  convolution: aten("convolution"),
  backward: aten("convolution_backward"),
  permute: aten("permute"),
  reshape: aten("reshape"),
  empty: aten("empty.memory_format"),
  add: aten("add.Tensor"),
  slice: aten("slice.Tensor"),
};

/** A convolution of any number of spatial axes. */
interface Convolution {
  readonly window: Window;
  /** Whether the channels are the last axis, as TensorFlow.js has them by default. */
  readonly last: boolean;
  /** Whether each input channel has filters of its own. */
  readonly depthwise: boolean;
  /** The shapes as TensorFlow.js has them. */
  readonly inShape: readonly number[];
  readonly outShape: readonly number[];
  readonly filterShape: readonly number[];
}

function described(
  info: backend_util.Conv2DInfo | backend_util.Conv3DInfo,
  depthwise: boolean,
  filterShape: readonly number[],
): Convolution {
  return {
    window: "filterDepth" in info ? window3d(info) : window2d(info),
    last: info.dataFormat === "channelsLast",
    depthwise,
    inShape: info.inShape,
    outShape: info.outShape,
    filterShape,
  };
}

function spatialAxes(given: Convolution): number {
  return given.window.size.length;
}

function groups(given: Convolution): number {
  return given.depthwise ? (given.filterShape.at(-2) ?? 1) : 1;
}

function intoAten(frame: Frame, info: TensorInfo, given: Convolution): NativeTensor {
  const tensor = frame.tensorAs(info, "float32");
  return given.last ? channelsFirst(frame, tensor, spatialAxes(given)) : tensor;
}

function fromAten(frame: Frame, tensor: NativeTensor, given: Convolution): NativeTensor {
  return given.last ? channelsLast(frame, tensor, spatialAxes(given)) : tensor;
}

/** [...window, in, out] as ATen's [out, in, ...window]; depthwise [...window, in, multiplier] as [in · multiplier, 1, ...window]. */
function filterIntoAten(frame: Frame, filter: TensorInfo, given: Convolution): NativeTensor {
  const axes = Array.from({ length: spatialAxes(given) }, (_, axis) => axis);
  const tensor = frame.tensorAs(filter, "float32");
  const [inputs, outputs] = [axes.length, axes.length + 1];
  if (!given.depthwise) return frame.call(operators.permute, tensor, [outputs, inputs, ...axes]);
  const together = frame.call(operators.permute, tensor, [inputs, outputs, ...axes]);
  return frame.call(operators.reshape, together, atenFilterShape(given));
}

function atenFilterShape({ filterShape, depthwise, window }: Convolution): number[] {
  const [inputs = 0, outputs = 0] = filterShape.slice(-2);
  return depthwise ? [inputs * outputs, 1, ...window.size] : [outputs, inputs, ...window.size];
}

function filterFromAten(frame: Frame, tensor: NativeTensor, given: Convolution): NativeTensor {
  const axes = Array.from({ length: spatialAxes(given) }, (_, axis) => axis + 2);
  if (!given.depthwise) return frame.call(operators.permute, tensor, [...axes, 1, 0]);
  const [inputs = 0, multiplier = 0] = given.filterShape.slice(-2);
  const apart = frame.call(operators.reshape, tensor, [inputs, multiplier, ...given.window.size]);
  return frame.call(operators.permute, apart, [...axes, 0, 1]);
}

/** The result in ATen's order of axes. */
function forward(
  frame: Frame,
  x: TensorInfo,
  filter: TensorInfo,
  given: Convolution,
  bias: NativeTensor | null = null,
): NativeTensor {
  assertShape(frame.kernelName, "the input", x.shape, given.inShape);
  const { both, advance } = paddingOf(given.window);
  return frame.call(
    operators.convolution,
    padded(frame, intoAten(frame, x, given), advance, 0),
    filterIntoAten(frame, filter, given),
    bias,
    given.window.strides,
    both,
    given.window.dilations,
    false,
    both.map(() => 0),
    groups(given),
  );
}

function convolved(frame: Frame, x: TensorInfo, filter: TensorInfo, given: Convolution): TensorInfo {
  if (isEmpty(given.window)) return frame.output(zeros(frame, given.outShape), x.dtype);
  return frame.output(fromAten(frame, forward(frame, x, filter, given), given), x.dtype);
}

/** dy in ATen's order. One with more positions than the window has, as `conv2dTranspose` allows, counts by the first. */
function firstPositions(frame: Frame, dy: TensorInfo, given: Convolution): NativeTensor {
  const { window, outShape } = given;
  const isLarger =
    dy.shape.length === outShape.length && dy.shape.every((length, axis) => length >= (outShape[axis] ?? 0));
  const channel = given.last ? outShape.length - 1 : 1;
  if (!isLarger || dy.shape[0] !== outShape[0] || dy.shape[channel] !== outShape[channel]) {
    assertShape(frame.kernelName, "dy", dy.shape, outShape);
  }
  return window.output.reduce<NativeTensor>(
    (part, length, axis) => frame.call(operators.slice, part, axis + 2, 0, length, 1),
    intoAten(frame, dy, given),
  );
}

/** The gradient by the input: the transposed convolution of dy. */
function inputGradient(frame: Frame, dy: TensorInfo, filter: TensorInfo, given: Convolution): TensorInfo {
  const rate = firstPositions(frame, dy, given);
  assertShape(frame.kernelName, "the filter", filter.shape, given.filterShape);
  const { window } = given;
  if (isEmpty(window)) return frame.output(zeros(frame, given.inShape), "float32");
  const { both, advance } = paddingOf(window);
  // What the last positions of the window did not reach gets no gradient, but belongs to the result.
  const rest = window.input.map((length, axis) => {
    if (advance !== null) return 0;
    const last = ((window.output[axis] ?? 0) - 1) * (window.strides[axis] ?? 1);
    return length + 2 * (both[axis] ?? 0) - last - reach(window, axis);
  });
  const full = frame.call(
    operators.convolution,
    rate,
    filterIntoAten(frame, filter, given),
    null,
    window.strides,
    both,
    window.dilations,
    true,
    rest,
    groups(given),
  );
  return frame.output(fromAten(frame, unpadded(frame, full, advance), given), "float32");
}

/** The gradient by the filter. */
function filterGradient(frame: Frame, x: TensorInfo, dy: TensorInfo, given: Convolution): TensorInfo {
  assertShape(frame.kernelName, "the input", x.shape, given.inShape);
  assertShape(frame.kernelName, "dy", dy.shape, given.outShape);
  if (isEmpty(given.window)) return frame.output(zeros(frame, given.filterShape), "float32");
  const { both, advance } = paddingOf(given.window);
  // Only the filter's shape is asked for, not its values.
  const shape = atenFilterShape(given);
  const standIn = frame.call(operators.empty, shape, "float32", undefined, frame.backend.device);
  const [, gradient] = frame.callList(
    operators.backward,
    intoAten(frame, dy, given),
    padded(frame, intoAten(frame, x, given), advance, 0),
    standIn,
    null,
    given.window.strides,
    both,
    given.window.dilations,
    false,
    both.map(() => 0),
    groups(given),
    [false, true, false],
  );
  return frame.output(filterFromAten(frame, gradient as NativeTensor, given), "float32");
}

type Format2d = "NHWC" | "NCHW";
type Shape4d = [number, number, number, number];
type Shape5d = [number, number, number, number, number];

function conv2dOf(
  inShape: readonly number[],
  filterShape: readonly number[],
  attrs: Pick<Conv2DAttrs, "strides" | "pad" | "dimRoundingMode"> &
    Partial<Pick<Conv2DAttrs, "dilations">> & { dataFormat?: Format2d },
  depthwise = false,
): Convolution {
  const { strides, pad, dataFormat = "NHWC", dilations, dimRoundingMode } = attrs;
  const info = backend_util.computeConv2DInfo(
    inShape as Shape4d,
    filterShape as Shape4d,
    strides,
    dilations ?? 1,
    pad,
    dimRoundingMode,
    depthwise,
    backend_util.convertConv2DDataFormat(dataFormat),
  );
  return described(info, depthwise, filterShape);
}

function conv3dOf(
  inShape: readonly number[],
  filterShape: readonly number[],
  { strides, pad, dilations }: Pick<Conv3DAttrs, "strides" | "pad"> & Partial<Pick<Conv3DAttrs, "dilations">>,
): Convolution {
  const info = backend_util.computeConv3DInfo(
    inShape as Shape5d,
    filterShape as Shape5d,
    strides,
    dilations ?? 1,
    pad,
  );
  return described(info, false, filterShape);
}

const conv2d = kernel<Conv2DInputs, Conv2DAttrs>("Conv2D", (frame, { x, filter }, attrs) =>
  convolved(frame, x, filter, conv2dOf(x.shape, filter.shape, attrs)),
);

const conv2dInput = kernel<Conv2DBackpropInputInputs, Conv2DBackpropInputAttrs>(
  "Conv2DBackpropInput",
  (frame, { dy, filter }, attrs) =>
    inputGradient(frame, dy, filter, conv2dOf(attrs.inputShape, filter.shape, attrs)),
);

const conv2dFilter = kernel<Conv2DBackpropFilterInputs, Conv2DBackpropFilterAttrs>(
  "Conv2DBackpropFilter",
  (frame, { x, dy }, attrs) => filterGradient(frame, x, dy, conv2dOf(x.shape, attrs.filterShape, attrs)),
);

const conv3d = kernel<Conv3DInputs, Conv3DAttrs>("Conv3D", (frame, { x, filter }, attrs) =>
  convolved(frame, x, filter, conv3dOf(x.shape, filter.shape, attrs)),
);

const conv3dInput = kernel<Conv3DBackpropInputV2Inputs, Conv3DBackpropInputV2Attrs>(
  "Conv3DBackpropInputV2",
  (frame, { dy, filter }, attrs) =>
    inputGradient(frame, dy, filter, conv3dOf(attrs.inputShape, filter.shape, attrs)),
);

const conv3dFilter = kernel<Conv3DBackpropFilterV2Inputs, Conv3DBackpropFilterV2Attrs>(
  "Conv3DBackpropFilterV2",
  (frame, { x, dy }, attrs) => filterGradient(frame, x, dy, conv3dOf(x.shape, attrs.filterShape, attrs)),
);

const depthwise = kernel<DepthwiseConv2dNativeInputs, DepthwiseConv2dNativeAttrs>(
  "DepthwiseConv2dNative",
  (frame, { x, filter }, attrs) => convolved(frame, x, filter, conv2dOf(x.shape, filter.shape, attrs, true)),
);

const depthwiseInput = kernel<
  DepthwiseConv2dNativeBackpropInputInputs,
  DepthwiseConv2dNativeBackpropInputAttrs
>("DepthwiseConv2dNativeBackpropInput", (frame, { dy, filter }, attrs) =>
  inputGradient(frame, dy, filter, conv2dOf(attrs.inputShape, filter.shape, attrs, true)),
);

const depthwiseFilter = kernel<
  DepthwiseConv2dNativeBackpropFilterInputs,
  DepthwiseConv2dNativeBackpropFilterAttrs
>("DepthwiseConv2dNativeBackpropFilter", (frame, { x, dy }, attrs) =>
  filterGradient(frame, x, dy, conv2dOf(x.shape, attrs.filterShape, attrs, true)),
);

/** A number for each channel, where the channels are not the last axis. */
function alongChannels(info: TensorInfo | undefined, { last }: Convolution): number[] | undefined {
  const [length = 0] = info?.shape ?? [];
  return !last && info?.shape.length === 1 && length !== 1 ? [length, 1, 1] : undefined;
}

/** Convolution, bias and activation in one. A bias of a number for each channel goes into ATen's own operator. */
function fused(
  frame: Frame,
  { x, filter, bias, preluActivationWeights: slopes }: FusedConv2DInputs | FusedDepthwiseConv2DInputs,
  attrs: FusedConv2DAttrs | FusedDepthwiseConv2DAttrs,
  given: Convolution,
): TensorInfo {
  if (isEmpty(given.window)) return frame.output(zeros(frame, given.outShape), x.dtype);
  const channels = given.outShape[given.last ? given.outShape.length - 1 : 1];
  const inside = bias !== undefined && bias.shape.length === 1 && bias.shape[0] === channels;
  const convolution = forward(frame, x, filter, given, inside ? frame.tensorAs(bias, "float32") : null);
  let result = fromAten(frame, convolution, given);
  if (bias && !inside) result = frame.call(operators.add, result, frame.tensorAs(bias, "float32"));
  const { activation, leakyreluAlpha } = attrs;
  const slopesShape = alongChannels(slopes, given);
  return frame.output(activated(frame, result, { activation, leakyreluAlpha, slopes, slopesShape }), x.dtype);
}

const fusedConv2d = kernel<FusedConv2DInputs, FusedConv2DAttrs>("FusedConv2D", (frame, inputs, attrs) => {
  const given = inputs as unknown as FusedConv2DInputs;
  return fused(frame, given, attrs, conv2dOf(given.x.shape, given.filter.shape, attrs));
});

const fusedDepthwise = kernel<FusedDepthwiseConv2DInputs, FusedDepthwiseConv2DAttrs>(
  "FusedDepthwiseConv2D",
  (frame, inputs, attrs) => {
    const given = inputs as unknown as FusedDepthwiseConv2DInputs;
    return fused(frame, given, attrs, conv2dOf(given.x.shape, given.filter.shape, attrs, true));
  },
);

/** Convolutions over two and three axes, with their gradients. */
export const convolutionKernels: readonly Kernel[] = [
  conv2d,
  conv2dInput,
  conv2dFilter,
  conv3d,
  conv3dInput,
  conv3dFilter,
  depthwise,
  depthwiseInput,
  depthwiseFilter,
  fusedConv2d,
  fusedDepthwise,
];
