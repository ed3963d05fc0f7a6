import {
  backend_util,
  type ClipByValueAttrs,
  type DataType,
  type EluGradInputs,
  type LeakyReluAttrs,
  type PreluInputs,
  type StepAttrs,
  type UnaryInputs,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { type AtenOperator, aten } from "../aten.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";

const operators = {
  clamp: aten("clamp"),
  where: aten("where.self"),
  whereScalars: aten("where.Scalar"),
  isNan: aten("isnan"),
  greater: aten("gt.Scalar"),
  less: aten("lt.Scalar"),
  greaterEqual: aten("ge.Scalar"),
  mul: aten("mul.Tensor"),
  addScalar: aten("add.Scalar"),
  leakyRelu: aten("leaky_relu"),
  abs: aten("abs"),
  not: aten("logical_not"),
};

type Compute = (frame: Frame, x: NativeTensor) => NativeTensor;

/** A function of each element. The result has the input's dtype, or `result` where that is given. */
function elementwise(name: string, compute: Compute, result?: DataType): Kernel {
  return kernel<UnaryInputs>(name, (frame, { x }) => {
    // Booleans are computed with as integers, which is what they are in TensorFlow.js.
    const dtype = x.dtype === "bool" && result !== "bool" ? "int32" : x.dtype;
    return frame.output(compute(frame, frame.tensorAs(x, dtype)), result ?? dtype);
  });
}

function plain(name: string, operator: AtenOperator, result?: DataType): Kernel {
  return elementwise(name, (frame, x) => frame.call(operator, x), result);
}

const clipByValue = kernel<UnaryInputs, ClipByValueAttrs>(
  "ClipByValue",
  (frame, { x }, { clipValueMin, clipValueMax }) =>
    frame.output(frame.call(operators.clamp, frame.tensor(x), clipValueMin, clipValueMax), x.dtype),
);

const step = kernel<UnaryInputs, StepAttrs>("Step", (frame, { x }, { alpha }) => {
  const value = frame.tensor(x);
  const stepped = frame.call(operators.whereScalars, frame.call(operators.greater, value, 0), 1, alpha);
  if (x.dtype !== "float32") return frame.output(stepped, x.dtype);
  const invalid = frame.call(operators.isNan, value);
  const result = frame.call(operators.where, invalid, value, frame.cast(stepped, "float32"));
  return frame.output(result, x.dtype);
});

const leakyRelu = kernel<UnaryInputs, LeakyReluAttrs>("LeakyRelu", (frame, { x }, { alpha }) =>
  frame.output(frame.call(operators.leakyRelu, frame.tensorAs(x, "float32"), alpha), "float32"),
);

const prelu = kernel<PreluInputs>("Prelu", (frame, { x, alpha }) => {
  backend_util.assertAndGetBroadcastShape(x.shape, alpha.shape);
  const value = frame.tensorAs(x, "float32");
  const negative = frame.call(operators.mul, value, frame.tensorAs(alpha, "float32"));
  const result = frame.call(operators.where, frame.call(operators.less, value, 0), negative, value);
  return frame.output(result, "float32");
});

const eluGrad = kernel<EluGradInputs>("EluGrad", (frame, { dy, y }) => {
  const value = frame.tensor(y);
  const slope = frame.call(operators.addScalar, value, 1);
  const positive = frame.call(operators.greaterEqual, value, 0);
  const below = frame.call(operators.mul, frame.tensor(dy), slope);
  return frame.output(frame.call(operators.where, positive, frame.tensor(dy), below), "float32");
});

const complexAbs = kernel<UnaryInputs>("ComplexAbs", (frame, { x }) =>
  frame.output(frame.call(operators.abs, frame.tensor(x)), "float32"),
);

const logicalNot = kernel<UnaryInputs>("LogicalNot", (frame, { x }) =>
  frame.output(frame.call(operators.not, frame.tensor(x)), "bool"),
);

/** Functions of each element of one tensor. */
export const unaryKernels: readonly Kernel[] = [
  plain("Abs", operators.abs),
  plain("Acos", aten("acos")),
  plain("Acosh", aten("acosh")),
  plain("Asin", aten("asin")),
  plain("Asinh", aten("asinh")),
  plain("Atan", aten("atan")),
  plain("Atanh", aten("atanh")),
  plain("Ceil", aten("ceil")),
  plain("Cos", aten("cos")),
  plain("Cosh", aten("cosh")),
  plain("Elu", aten("elu")),
  plain("Erf", aten("erf")),
  plain("Exp", aten("exp"), "float32"),
  plain("Expm1", aten("expm1"), "float32"),
  plain("Floor", aten("floor")),
  plain("IsFinite", aten("isfinite"), "bool"),
  plain("IsInf", aten("isinf"), "bool"),
  plain("IsNan", operators.isNan, "bool"),
  plain("Log", aten("log"), "float32"),
  plain("Log1p", aten("log1p"), "float32"),
  plain("Neg", aten("neg")),
  plain("Reciprocal", aten("reciprocal")),
  plain("Relu", aten("relu")),
  plain("Relu6", aten("relu6")),
  plain("Round", aten("round")),
  plain("Rsqrt", aten("rsqrt"), "float32"),
  plain("Selu", aten("selu")),
  plain("Sigmoid", aten("sigmoid"), "float32"),
  plain("Sign", aten("sign")),
  plain("Sin", aten("sin")),
  plain("Sinh", aten("sinh")),
  plain("Softplus", aten("softplus")),
  plain("Sqrt", aten("sqrt")),
  plain("Square", aten("square")),
  plain("Tan", aten("tan")),
  plain("Tanh", aten("tanh")),
  clipByValue,
  step,
  leakyRelu,
  prelu,
  eluGrad,
  complexAbs,
  logicalNot,
];
