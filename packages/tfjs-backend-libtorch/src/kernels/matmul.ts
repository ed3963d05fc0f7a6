import {
  type _FusedMatMulAttrs,
  type _FusedMatMulInputs,
  type BatchMatMulAttrs,
  type BatchMatMulInputs,
  backend_util,
  type EinsumAttrs,
  type TensorInfo,
  util,
} from "@tensorflow/tfjs";
import { aten } from "../aten.js";
import { type Frame, type Given, type Kernel, kernel } from "../kernel.js";
import { activated } from "./activation.js";

const operators = {
  matmul: aten("matmul"),
  transpose: aten("transpose.int"),
  add: aten("add.Tensor"),
  einsum: aten("einsum"),
};

/** [..., m, k] × [..., k, n] → [..., m, n], with the batch axes broadcast. ATen takes the transposes as strides. */
function product(
  frame: Frame,
  { a, b }: Given<BatchMatMulInputs>,
  { transposeA, transposeB }: BatchMatMulAttrs,
) {
  const innerA = a.shape[a.shape.length - (transposeA ? 2 : 1)];
  const innerB = b.shape[b.shape.length - (transposeB ? 1 : 2)];
  util.assert(
    innerA === innerB,
    () =>
      `Error in matMul: inner shapes (${innerA}) and (${innerB}) of Tensors with shapes ${a.shape} and ${b.shape} ` +
      `and transposeA=${transposeA} and transposeB=${transposeB} must match.`,
  );
  const dtype = backend_util.upcastType(a.dtype, b.dtype);
  const left = frame.tensorAs(a, dtype);
  const right = frame.tensorAs(b, dtype);
  return frame.call(
    operators.matmul,
    transposeA ? frame.call(operators.transpose, left, -2, -1) : left,
    transposeB ? frame.call(operators.transpose, right, -2, -1) : right,
  );
}

const batchMatMul = kernel<BatchMatMulInputs, BatchMatMulAttrs>("BatchMatMul", (frame, inputs, attrs) =>
  frame.output(product(frame, inputs, attrs), backend_util.upcastType(inputs.a.dtype, inputs.b.dtype)),
);

const fusedMatMul = kernel<_FusedMatMulInputs, _FusedMatMulAttrs>("_FusedMatMul", (frame, inputs, attrs) => {
  const { a, b, bias, preluActivationWeights } = inputs;
  const multiplied = product(frame, { a, b }, attrs);
  const biased = bias ? frame.call(operators.add, multiplied, frame.tensor(bias)) : multiplied;
  return frame.output(
    activated(frame, biased, { ...attrs, slopes: preluActivationWeights }),
    backend_util.upcastType(a.dtype, b.dtype),
  );
});

const einsum = kernel<TensorInfo[], EinsumAttrs>("Einsum", (frame, inputs, { equation }) => {
  // TensorFlow.js accepts less than ATen: what it refuses must be refused here, too.
  const { allDims, idDims } = backend_util.decodeEinsumEquation(equation, inputs.length);
  backend_util.checkEinsumDimSizes(allDims.length, idDims, inputs as never);
  const dtype = inputs.map((input) => input.dtype).reduce((a, b) => backend_util.upcastType(a, b));
  const tensors = inputs.map((input) => frame.tensorAs(input, dtype));
  return frame.output(frame.call(operators.einsum, equation, tensors), dtype);
});

/** Matrix products. */
export const matmulKernels: readonly Kernel[] = [batchMatMul, fusedMatMul, einsum];
