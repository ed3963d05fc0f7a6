import {
  type FusedBatchNormAttrs,
  type FusedBatchNormInputs,
  type LogSoftmaxAttrs,
  type LogSoftmaxInputs,
  type LRNAttrs,
  type LRNGradAttrs,
  type LRNGradInputs,
  type LRNInputs,
  type SoftmaxAttrs,
  type SoftmaxInputs,
  type TensorInfo,
  util,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";

const operators = {
  softmax: aten("_softmax"),
  logSoftmax: aten("_log_softmax"),
  rsqrt: aten("rsqrt"),
  addScalar: aten("add.Scalar"),
  add: aten("add.Tensor"),
  sub: aten("sub.Tensor"),
  mul: aten("mul.Tensor"),
  mulScalar: aten("mul.Scalar"),
  divide: aten("div.Tensor"),
  pow: aten("pow.Tensor_Scalar"),
  square: aten("square"),
  reshape: aten("reshape"),
  averagePool: aten("avg_pool2d"),
};

const softmax = kernel<SoftmaxInputs, SoftmaxAttrs>("Softmax", (frame, { logits }, { dim }) => {
  const [axis = 0] = util.parseAxisParam(dim, logits.shape);
  return frame.output(
    frame.call(operators.softmax, frame.tensorAs(logits, "float32"), axis, false),
    "float32",
  );
});

const logSoftmax = kernel<LogSoftmaxInputs, LogSoftmaxAttrs>("LogSoftmax", (frame, { logits }, { axis }) => {
  const [along = 0] = util.parseAxisParam(axis, logits.shape);
  return frame.output(
    frame.call(operators.logSoftmax, frame.tensorAs(logits, "float32"), along, false),
    "float32",
  );
});

const fusedBatchNorm = kernel<FusedBatchNormInputs, FusedBatchNormAttrs>(
  "FusedBatchNorm",
  (frame, { x, scale, offset, mean, variance }, { varianceEpsilon = 0.001 }) => {
    const deviation = frame.call(operators.addScalar, frame.tensor(variance), varianceEpsilon);
    let factor = frame.call(operators.rsqrt, deviation);
    if (scale) factor = frame.call(operators.mul, factor, frame.tensor(scale));
    const centered = frame.call(operators.sub, frame.tensor(x), frame.tensor(mean));
    const scaled = frame.call(operators.mul, centered, factor);
    const result = offset ? frame.call(operators.add, scaled, frame.tensor(offset)) : scaled;
    return frame.output(result, x.dtype);
  },
);

/** The sum over the neighbouring channels, `radius` on each side; ATen pools along the last axis. */
function aroundChannel(
  frame: Frame,
  x: NativeTensor,
  shape: readonly number[],
  radius: number,
): NativeTensor {
  const channels = shape.at(-1) ?? 0;
  const rows = util.sizeFromShape([...shape]) / Math.max(channels, 1);
  const flat = frame.call(operators.reshape, x, [1, rows, channels]);
  const size = [1, 2 * radius + 1];
  const summed = frame.call(operators.averagePool, flat, size, [1, 1], [0, radius], false, true, 1);
  return frame.call(operators.reshape, summed, shape);
}

/** bias + alpha · the sum of the squares around each channel. */
function responses(frame: Frame, x: TensorInfo, { depthRadius, bias, alpha }: LRNAttrs): NativeTensor {
  const squares = frame.call(operators.square, frame.tensorAs(x, "float32"));
  const sums = aroundChannel(frame, squares, x.shape, depthRadius);
  return frame.call(operators.addScalar, frame.call(operators.mulScalar, sums, alpha), bias);
}

const localResponse = kernel<LRNInputs, LRNAttrs>("LRN", (frame, { x }, attrs) => {
  const factor = frame.call(operators.pow, responses(frame, x, attrs), -attrs.beta);
  return frame.output(frame.call(operators.mul, frame.tensorAs(x, "float32"), factor), x.dtype);
});

const localResponseGrad = kernel<LRNGradInputs, LRNGradAttrs>("LRNGrad", (frame, { x, y, dy }, attrs) => {
  const { alpha, beta, depthRadius } = attrs;
  const norm = responses(frame, x, attrs);
  const rate = frame.tensorAs(dy, "float32");
  const own = frame.call(operators.mul, rate, frame.call(operators.pow, norm, -beta));
  const weighted = frame.call(operators.divide, frame.call(operators.mul, rate, frame.tensor(y)), norm);
  const around = aroundChannel(frame, weighted, x.shape, depthRadius);
  const scaled = frame.call(operators.mul, frame.tensorAs(x, "float32"), around);
  const others = frame.call(operators.mulScalar, scaled, -2 * alpha * beta);
  return frame.output(frame.call(operators.add, own, others), "float32");
});

/** Softmax, batch normalisation, local response normalisation. */
export const normalizationKernels: readonly Kernel[] = [
  softmax,
  logSoftmax,
  fusedBatchNorm,
  localResponse,
  localResponseGrad,
];
