import type { TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor, NativeType } from "../../addon.js";
import { aten } from "../../aten.js";
import type { Frame } from "../../kernel.js";

const operators = {
  mm: aten("mm"),
  addmm: aten("addmm"),
  addmmInPlace: aten("addmm_"),
  addInPlace: aten("add_.Tensor"),
  t: aten("t"),
  reshape: aten("reshape"),
};

/** `in_out`: weight [in, out] (GPT-2's Conv1D); `out_in`: weight [out, in] (PyTorch's Linear). */
export type WeightLayout = "in_out" | "out_in";

/** What a matrix product computes in; its sums are float32 either way. */
export type Precision = "fp32" | "bf16";

/** The element type of what a linear layer takes and gives. */
export function elementType(precision: Precision): NativeType {
  return precision === "bf16" ? "bfloat16" : "float32";
}

/** An input in the precision of a product: the tensor itself, or its copy in bfloat16, which is made once. */
export function operand(frame: Frame, info: TensorInfo, precision: Precision): NativeTensor {
  // A product of integers is a mistake, which the product itself tells of.
  if (info.dtype !== "float32") return frame.tensor(info);
  if (precision === "fp32") return float32(frame, frame.tensor(info));
  const half = frame.backend.half(info.dataId);
  return frame.call(operators.reshape, half, info.shape);
}

/** The float32 values of a tensor that may be bfloat16 underneath. */
export function float32(frame: Frame, tensor: NativeTensor): NativeTensor {
  return frame.backend.isFloat32(tensor) ? tensor : frame.cast(tensor, "float32");
}

function transposed(frame: Frame, matrix: NativeTensor): NativeTensor {
  return frame.call(operators.t, matrix);
}

/** The weight as [in, out]; a transpose is only other strides. */
function asInOut(frame: Frame, weight: NativeTensor, layout: WeightLayout): NativeTensor {
  return layout === "in_out" ? weight : transposed(frame, weight);
}

/** x [rows, in] → [rows, out], plus the bias [out] if there is one */
export function multiply(
  frame: Frame,
  x: NativeTensor,
  weight: NativeTensor,
  layout: WeightLayout,
  bias?: NativeTensor,
): NativeTensor {
  const matrix = asInOut(frame, weight, layout);
  return bias === undefined
    ? frame.call(operators.mm, x, matrix)
    : frame.call(operators.addmm, bias, x, matrix);
}

/** dy [rows, out] → the gradient of x [rows, in] */
export function inputGradient(
  frame: Frame,
  dy: NativeTensor,
  weight: NativeTensor,
  layout: WeightLayout,
): NativeTensor {
  return frame.call(operators.mm, dy, transposed(frame, asInOut(frame, weight, layout)));
}

/** {@link inputGradient}, added to a float32 gradient in place. */
export function addInputGradient(
  frame: Frame,
  sum: NativeTensor,
  dy: NativeTensor,
  weight: NativeTensor,
  layout: WeightLayout,
): void {
  if (frame.backend.isFloat32(dy)) {
    frame.callInPlace(operators.addmmInPlace, sum, dy, transposed(frame, asInOut(frame, weight, layout)));
  } else {
    frame.callInPlace(operators.addInPlace, sum, inputGradient(frame, dy, weight, layout));
  }
}

/** x [rows, in], dy [rows, out] → the weight's gradient in the weight's layout, float32 */
export function weightGradient(
  frame: Frame,
  x: NativeTensor,
  dy: NativeTensor,
  layout: WeightLayout,
): NativeTensor {
  const product =
    layout === "in_out"
      ? frame.call(operators.mm, transposed(frame, x), dy)
      : frame.call(operators.mm, transposed(frame, dy), x);
  return float32(frame, product);
}
