import { type BinaryInputs, backend_util, type DataType } from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { type AtenOperator, aten } from "../aten.js";
import { type Frame, type Given, type Kernel, kernel } from "../kernel.js";
import { stringRanks } from "../strings.js";

const operators = {
  add: aten("add.Tensor"),
  sub: aten("sub.Tensor"),
  mul: aten("mul.Tensor"),
  divide: aten("div.Tensor"),
  divideMode: aten("div.Tensor_mode"),
  remainder: aten("remainder.Tensor"),
  pow: aten("pow.Tensor_Tensor"),
  atan2: aten("atan2"),
  maximum: aten("maximum"),
  minimum: aten("minimum"),
  and: aten("bitwise_and.Tensor"),
  equalToScalar: aten("eq.Scalar"),
  maskedFill: aten("masked_fill.Scalar"),
};

interface Operands {
  readonly a: NativeTensor;
  readonly b: NativeTensor;
  /** The dtype that both have. */
  readonly dtype: DataType;
}

/** Both inputs in their common dtype; booleans count as integers where they are computed with. */
function operands(frame: Frame, { a, b }: Given<BinaryInputs>, computes = true): Operands {
  backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
  const common = backend_util.upcastType(a.dtype, b.dtype);
  const dtype = computes && common === "bool" ? "int32" : common;
  return { a: frame.tensorAs(a, dtype), b: frame.tensorAs(b, dtype), dtype };
}

function arithmetic(name: string, operator: AtenOperator): Kernel {
  return kernel<BinaryInputs>(name, (frame, inputs) => {
    const { a, b, dtype } = operands(frame, inputs);
    return frame.output(frame.call(operator, a, b), dtype);
  });
}

function comparison(name: string, operator: AtenOperator): Kernel {
  return kernel<BinaryInputs>(name, (frame, inputs) => {
    const { a, b } =
      inputs.a.dtype === "string" ? comparableStrings(frame, inputs) : operands(frame, inputs, false);
    return frame.output(frame.call(operator, a, b), "bool");
  });
}

/** Strings as numbers that compare as they do. */
function comparableStrings(frame: Frame, { a, b }: Given<BinaryInputs>) {
  const [ranksA = [], ranksB = []] = stringRanks([
    frame.backend.strings(a.dataId),
    frame.backend.strings(b.dataId),
  ]);
  return { a: frame.constant(ranksA, a.shape, "int32"), b: frame.constant(ranksB, b.shape, "int32") };
}

function logical(name: string, operator: AtenOperator): Kernel {
  return kernel<BinaryInputs>(name, (frame, { a, b }) => {
    backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
    return frame.output(frame.call(operator, frame.tensorAs(a, "bool"), frame.tensorAs(b, "bool")), "bool");
  });
}

/** Integer division by zero traps in ATen; TensorFlow.js gives 0. */
function integerDivision(
  frame: Frame,
  b: NativeTensor,
  divide: (divisor: NativeTensor) => NativeTensor,
): NativeTensor {
  const zero = frame.call(operators.equalToScalar, b, 0);
  const quotient = divide(frame.call(operators.maskedFill, b, zero, 1));
  return frame.call(operators.maskedFill, quotient, zero, 0);
}

const floorDiv = kernel<BinaryInputs>("FloorDiv", (frame, inputs) => {
  const given = operands(frame, inputs);
  if (given.dtype !== "int32") {
    return frame.output(frame.call(operators.divideMode, given.a, given.b, "floor"), "int32");
  }
  const result = integerDivision(frame, given.b, (b) =>
    frame.call(operators.divideMode, given.a, b, "floor"),
  );
  return frame.output(result, "int32");
});

const mod = kernel<BinaryInputs>("Mod", (frame, inputs) => {
  const given = operands(frame, inputs);
  if (given.dtype !== "int32") {
    return frame.output(frame.call(operators.remainder, given.a, given.b), given.dtype);
  }
  const result = integerDivision(frame, given.b, (b) => frame.call(operators.remainder, given.a, b));
  return frame.output(result, "int32");
});

const squaredDifference = kernel<BinaryInputs>("SquaredDifference", (frame, inputs) => {
  const { a, b, dtype } = operands(frame, inputs);
  const difference = frame.call(operators.sub, a, b);
  return frame.output(frame.call(operators.mul, difference, difference), dtype);
});

const bitwiseAnd = kernel<BinaryInputs>("BitwiseAnd", (frame, { a, b }) => {
  return frame.output(frame.call(operators.and, frame.tensor(a), frame.tensor(b)), "int32");
});

/** Arithmetic, comparison and logic on two tensors of broadcastable shapes. */
export const binaryKernels: readonly Kernel[] = [
  arithmetic("Add", operators.add),
  arithmetic("Sub", operators.sub),
  arithmetic("Multiply", operators.mul),
  arithmetic("RealDiv", operators.divide),
  arithmetic("Maximum", operators.maximum),
  arithmetic("Minimum", operators.minimum),
  arithmetic("Pow", operators.pow),
  arithmetic("Atan2", operators.atan2),
  floorDiv,
  mod,
  squaredDifference,
  bitwiseAnd,
  comparison("Equal", aten("eq.Tensor")),
  comparison("NotEqual", aten("ne.Tensor")),
  comparison("Greater", aten("gt.Tensor")),
  comparison("GreaterEqual", aten("ge.Tensor")),
  comparison("Less", aten("lt.Tensor")),
  comparison("LessEqual", aten("le.Tensor")),
  logical("LogicalAnd", aten("logical_and")),
  logical("LogicalOr", aten("logical_or")),
];
