import {
  type FusedBatchNormAttrs,
  type FusedBatchNormInputs,
  type LogSoftmaxAttrs,
  type LogSoftmaxInputs,
  type SoftmaxAttrs,
  type SoftmaxInputs,
  util,
} from "@tensorflow/tfjs";
import { aten } from "../aten.js";
import { type Kernel, kernel } from "../kernel.js";

const operators = {
  softmax: aten("_softmax"),
  logSoftmax: aten("_log_softmax"),
  rsqrt: aten("rsqrt"),
  addScalar: aten("add.Scalar"),
  add: aten("add.Tensor"),
  sub: aten("sub.Tensor"),
  mul: aten("mul.Tensor"),
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

/** Softmax and batch normalisation. */
export const normalizationKernels: readonly Kernel[] = [softmax, logSoftmax, fusedBatchNorm];
