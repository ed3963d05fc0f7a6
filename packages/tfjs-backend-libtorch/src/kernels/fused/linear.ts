import type { TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { aten } from "../../aten.js";
import { type Frame, type Kernel, kernel } from "../../kernel.js";

const operators = {
  addmm: aten("addmm"),
  mm: aten("mm"),
  t: aten("t"),
  sum: aten("sum.dim_IntList"),
};

interface LinearAttributes {
  /** `in_out`: weight [in, out] (GPT-2's Conv1D); `out_in`: weight [out, in] (PyTorch's Linear). */
  weightLayout: "in_out" | "out_in";
}

/** The weight as [in, out]; a transpose is only other strides. */
function asInOut(frame: Frame, weight: TensorInfo, { weightLayout }: LinearAttributes): NativeTensor {
  const tensor = frame.tensor(weight);
  return weightLayout === "in_out" ? tensor : frame.call(operators.t, tensor);
}

/** x [rows, in] → y [rows, out] */
const linear = kernel<{ x: TensorInfo; weight: TensorInfo; bias?: TensorInfo }, LinearAttributes>(
  "EspalierLinear",
  (frame, { x, weight, bias }, attrs) => {
    const matrix = asInOut(frame, weight, attrs);
    const y = bias
      ? frame.call(operators.addmm, frame.tensor(bias), frame.tensor(x), matrix)
      : frame.call(operators.mm, frame.tensor(x), matrix);
    return frame.output(y, "float32");
  },
);

/** dy [rows, out] → [dx, dWeight in the weight's layout, dBias?] */
const linearGrad = kernel<
  { dy: TensorInfo; x: TensorInfo; weight: TensorInfo },
  LinearAttributes & { hasBias: boolean }
>("EspalierLinearGrad", (frame, { dy, x, weight }, attrs) => {
  const gradient = frame.tensor(dy);
  const input = frame.tensor(x);
  const dx = frame.call(operators.mm, gradient, frame.call(operators.t, asInOut(frame, weight, attrs)));
  const dWeight =
    attrs.weightLayout === "in_out"
      ? frame.call(operators.mm, frame.call(operators.t, input), gradient)
      : frame.call(operators.mm, frame.call(operators.t, gradient), input);
  const results = [frame.output(dx, "float32"), frame.output(dWeight, "float32")];
  if (attrs.hasBias) {
    results.push(frame.output(frame.call(operators.sum, gradient, [0], false), "float32"));
  }
  return results;
});

/** A linear layer and its gradient. */
export const linearKernels: readonly Kernel[] = [linear, linearGrad];
