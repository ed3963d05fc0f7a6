import {
  type AvgPool3DAttrs,
  type AvgPool3DGradAttrs,
  type AvgPool3DGradInputs,
  type AvgPool3DInputs,
  type AvgPoolAttrs,
  type AvgPoolGradAttrs,
  type AvgPoolGradInputs,
  type AvgPoolInputs,
  backend_util,
  type MaxPool3DAttrs,
  type MaxPool3DGradAttrs,
  type MaxPool3DGradInputs,
  type MaxPool3DInputs,
  type MaxPoolAttrs,
  type MaxPoolGradAttrs,
  type MaxPoolGradInputs,
  type MaxPoolInputs,
  type MaxPoolWithArgmaxAttrs,
  type MaxPoolWithArgmaxInputs,
  type TensorInfo,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { type Frame, type Kernel, kernel, sameShape } from "../kernel.js";
import {
  assertShape,
  channelsFirst,
  channelsLast,
  isEmpty,
  padded,
  paddingOf,
  unpadded,
  type Window,
  window2d,
  window3d,
  zeros,
} from "./window.js";

const operators = {
  divide: aten("div.Tensor"),
  divideMode: aten("div.Scalar_mode"),
  remainder: aten("remainder.Scalar"),
  add: aten("add.Tensor"),
  addScalar: aten("add.Scalar"),
  mulScalar: aten("mul.Scalar"),
  withoutNan: aten("nan_to_num"),
};

/** ATen's operators for one number of spatial axes. */
interface Pool {
  readonly max: ReturnType<typeof aten>;
  readonly maxBackward: ReturnType<typeof aten>;
  readonly average: ReturnType<typeof aten>;
  readonly averageBackward: ReturnType<typeof aten>;
}

const pools: Readonly<Record<number, Pool>> = {
  2: {
    max: aten("max_pool2d_with_indices"),
    maxBackward: aten("max_pool2d_with_indices_backward"),
    average: aten("avg_pool2d"),
    averageBackward: aten("avg_pool2d_backward"),
  },
  3: {
    max: aten("max_pool3d_with_indices"),
    maxBackward: aten("max_pool3d_with_indices_backward"),
    average: aten("avg_pool3d"),
    averageBackward: aten("avg_pool3d_backward"),
  },
};

/** A pooling: its window, and the shapes as TensorFlow.js has them. */
interface Pooling {
  readonly window: Window;
  readonly pool: Pool;
  /** Whether each position sees its own place alone, which TensorFlow.js then leaves as it is, padding or not. */
  readonly isIdentity: boolean;
  readonly inShape: readonly number[];
  readonly outShape: readonly number[];
}

interface PoolAttrs<Extent> {
  readonly filterSize: Extent;
  readonly strides: Extent;
  readonly dimRoundingMode?: "floor" | "round" | "ceil";
}

function pooling2d(
  x: TensorInfo,
  attrs: PoolAttrs<MaxPoolAttrs["filterSize"]> & Pick<MaxPoolAttrs, "pad">,
): Pooling {
  const shape = x.shape as [number, number, number, number];
  const info = backend_util.computePool2DInfo(
    shape,
    attrs.filterSize,
    attrs.strides,
    1,
    attrs.pad,
    attrs.dimRoundingMode,
  );
  const { inShape, outShape, filterHeight, filterWidth } = info;
  const isIdentity = filterHeight === 1 && filterWidth === 1 && sameShape(inShape, outShape);
  return { window: window2d(info), pool: pools[2] as Pool, isIdentity, inShape, outShape };
}

function pooling3d(
  x: TensorInfo,
  attrs: PoolAttrs<MaxPool3DAttrs["filterSize"]> & Pick<MaxPool3DAttrs, "pad">,
): Pooling {
  const shape = x.shape as [number, number, number, number, number];
  const info = backend_util.computePool3DInfo(
    shape,
    attrs.filterSize,
    attrs.strides,
    1,
    attrs.pad,
    attrs.dimRoundingMode,
  );
  const { inShape, outShape } = info;
  return { window: window3d(info), pool: pools[3] as Pool, isIdentity: false, inShape, outShape };
}

function intoAten(frame: Frame, info: TensorInfo, { window }: Pooling): NativeTensor {
  return channelsFirst(frame, frame.tensorAs(info, "float32"), window.size.length);
}

function fromAten(frame: Frame, tensor: NativeTensor, { window }: Pooling): NativeTensor {
  return channelsLast(frame, tensor, window.size.length);
}

/** The largest values and where they are in the padded input. TensorFlow.js takes no notice of a NaN; ATen would. */
function maxima(frame: Frame, x: TensorInfo, given: Pooling) {
  const { both, advance } = paddingOf(given.window, true);
  const [low, high] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  const all = intoAten(frame, x, given);
  const comparable = x.dtype === "float32" ? frame.call(operators.withoutNan, all, low, high, low) : all;
  const input = padded(frame, comparable, advance, low);
  const { size, strides, dilations } = given.window;
  const [values, indices] = frame.callList(given.pool.max, input, size, strides, both, dilations, false);
  return { input, both, advance, values: values as NativeTensor, indices: indices as NativeTensor };
}

function maxPool(frame: Frame, x: TensorInfo, given: Pooling): TensorInfo {
  if (given.isIdentity) return frame.share(x);
  if (isEmpty(given.window)) return frame.output(zeros(frame, given.outShape), x.dtype);
  return frame.output(fromAten(frame, maxima(frame, x, given).values, given), x.dtype);
}

function maxPoolGradient(frame: Frame, dy: TensorInfo, x: TensorInfo, given: Pooling): TensorInfo {
  assertShape(frame.kernelName, "dy", dy.shape, given.outShape);
  if (isEmpty(given.window)) return frame.output(zeros(frame, given.inShape), "float32");
  const { input, both, advance, indices } = maxima(frame, x, given);
  const { size, strides, dilations } = given.window;
  const gradient = frame.call(
    given.pool.maxBackward,
    intoAten(frame, dy, given),
    input,
    size,
    strides,
    both,
    dilations,
    false,
    indices,
  );
  return frame.output(fromAten(frame, unpadded(frame, gradient, advance), given), "float32");
}

/**
 * Padding counts for nothing in an average. Where ATen can pad, it leaves it out itself; elsewhere sums are divided by
 * how many places of the input each window sees.
 */
function averagePlan(frame: Frame, given: Pooling, countPadding = false) {
  const { both, advance } = paddingOf(given.window, true);
  const { size, strides } = given.window;
  const divisor = advance === null || countPadding ? undefined : 1;
  const attributes = [size, strides, both, false, countPadding, divisor] as const;
  return { advance, attributes, counts: divisor === 1 ? placesSeen(frame, given.window) : null };
}

/** How many places of the input the window sees at each position → [...output]. */
function placesSeen(frame: Frame, window: Window): NativeTensor {
  const perAxis = window.output.map((length, axis) =>
    Array.from({ length }, (_, position) => {
      const start = position * (window.strides[axis] ?? 1) - (window.before[axis] ?? 0);
      const end = start + (window.size[axis] ?? 1);
      return Math.min(end, window.input[axis] ?? 0) - Math.max(start, 0);
    }),
  );
  // A window that lies in the padding altogether sees a sum of zero.
  const counts = perAxis.reduce(
    (all, axis) => all.flatMap((count) => axis.map((one) => count * Math.max(one, 1))),
    [1],
  );
  return frame.constant(counts, window.output, "float32");
}

function averagePool(frame: Frame, x: TensorInfo, given: Pooling): TensorInfo {
  if (given.isIdentity) return frame.share(x);
  if (isEmpty(given.window)) return frame.output(zeros(frame, given.outShape), x.dtype);
  const { advance, attributes, counts } = averagePlan(frame, given);
  const input = padded(frame, intoAten(frame, x, given), advance, 0);
  const pooled = frame.call(given.pool.average, input, ...attributes);
  const result = counts === null ? pooled : frame.call(operators.divide, pooled, counts);
  return frame.output(fromAten(frame, result, given), x.dtype);
}

/**
 * @param countPadding - whether each place weighs one over the window's size. TensorFlow.js's own suite demands that of
 *   padding that is given for each side, although the forward pass leaves such padding out of the average.
 */
function averagePoolGradient(
  frame: Frame,
  dy: TensorInfo,
  x: TensorInfo,
  given: Pooling,
  countPadding = false,
): TensorInfo {
  assertShape(frame.kernelName, "dy", dy.shape, given.outShape);
  if (isEmpty(given.window)) return frame.output(zeros(frame, given.inShape), "float32");
  const { advance, attributes, counts } = averagePlan(frame, given, countPadding);
  const input = padded(frame, intoAten(frame, x, given), advance, 0);
  const rate = intoAten(frame, dy, given);
  const spread = counts === null ? rate : frame.call(operators.divide, rate, counts);
  const gradient = frame.call(given.pool.averageBackward, spread, input, ...attributes);
  return frame.output(fromAten(frame, unpadded(frame, gradient, advance), given), "float32");
}

/** The largest values with their places in the flattened input, or, without the batch, in the flattened image. */
const maxPoolWithArgmax = kernel<MaxPoolWithArgmaxInputs, MaxPoolWithArgmaxAttrs>(
  "MaxPoolWithArgmax",
  (frame, { x }, attrs) => {
    const given = pooling2d(x, attrs);
    const { values, indices, advance } = maxima(frame, x, given);
    const [batch = 0, height = 0, width = 0, channels = 0] = x.shape;
    let place = fromAten(frame, indices, given);
    if (advance !== null) {
      const [[top] = [0], [left, right] = [0, 0]] = advance;
      const paddedWidth = width + left + right;
      const row = frame.call(operators.divideMode, place, paddedWidth, "floor");
      const column = frame.call(operators.remainder, place, paddedWidth);
      const inside = frame.call(operators.mulScalar, frame.call(operators.addScalar, row, -top), width);
      place = frame.call(operators.add, inside, frame.call(operators.addScalar, column, -left));
    }
    const channel = frame.constant(
      Array.from({ length: channels }, (_, index) => index),
      [channels],
      "int32",
    );
    place = frame.call(operators.add, frame.call(operators.mulScalar, place, channels), channel);
    if (attrs.includeBatchInIndex) {
      const starts = Array.from({ length: batch }, (_, index) => index * height * width * channels);
      place = frame.call(operators.add, place, frame.constant(starts, [batch, 1, 1, 1], "int32"));
    }
    return [frame.output(fromAten(frame, values, given), x.dtype), frame.output(place, "int32")];
  },
);

/** Largest values and averages of a moving window, with their gradients. */
export const poolingKernels: readonly Kernel[] = [
  kernel<MaxPoolInputs, MaxPoolAttrs>("MaxPool", (frame, { x }, attrs) =>
    maxPool(frame, x, pooling2d(x, attrs)),
  ),
  kernel<MaxPoolGradInputs, MaxPoolGradAttrs>("MaxPoolGrad", (frame, { dy, input }, attrs) =>
    maxPoolGradient(frame, dy, input, pooling2d(input, attrs)),
  ),
  kernel<MaxPool3DInputs, MaxPool3DAttrs>("MaxPool3D", (frame, { x }, attrs) =>
    maxPool(frame, x, pooling3d(x, attrs)),
  ),
  kernel<MaxPool3DGradInputs, MaxPool3DGradAttrs>("MaxPool3DGrad", (frame, { dy, input }, attrs) =>
    maxPoolGradient(frame, dy, input, pooling3d(input, attrs)),
  ),
  kernel<AvgPoolInputs, AvgPoolAttrs>("AvgPool", (frame, { x }, attrs) =>
    averagePool(frame, x, pooling2d(x, attrs)),
  ),
  kernel<AvgPoolGradInputs, AvgPoolGradAttrs>("AvgPoolGrad", (frame, { dy, input }, attrs) =>
    averagePoolGradient(frame, dy, input, pooling2d(input, attrs), Array.isArray(attrs.pad)),
  ),
  kernel<AvgPool3DInputs, AvgPool3DAttrs>("AvgPool3D", (frame, { x }, attrs) =>
    averagePool(frame, x, pooling3d(x, attrs)),
  ),
  kernel<AvgPool3DGradInputs, AvgPool3DGradAttrs>("AvgPool3DGrad", (frame, { dy, input }, attrs) =>
    averagePoolGradient(frame, dy, input, pooling3d(input, attrs)),
  ),
  maxPoolWithArgmax,
];
