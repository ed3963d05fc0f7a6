import type { NamedTensorInfoMap, TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { aten } from "../../aten.js";
import { type Frame, type Kernel, kernel } from "../../kernel.js";
import { columnSums } from "./passes.js";
import {
  inputGradient,
  multiply,
  operand,
  type Precision,
  type WeightLayout,
  weightGradient,
} from "./products.js";

const operators = {
  cat: aten("cat"),
  split: aten("split_with_sizes_copy"),
};

interface LinearAttributes {
  weightLayout: WeightLayout;
  precision?: Precision;
}

/** x [rows, in] → y [rows, out], which in `bf16` is bfloat16 */
const linear = kernel<{ x: TensorInfo; weight: TensorInfo; bias?: TensorInfo }, LinearAttributes>(
  "EspalierLinear",
  (frame, { x, weight, bias }, { weightLayout, precision = "fp32" }) => {
    const y = multiply(
      frame,
      operand(frame, x, precision),
      operand(frame, weight, precision),
      weightLayout,
      bias && operand(frame, bias, precision),
    );
    return frame.output(y, "float32");
  },
);

/** dy [rows, out] → [dx in dy's precision, dWeight in the weight's layout, dBias?] */
const linearGrad = kernel<
  { dy: TensorInfo; x: TensorInfo; weight: TensorInfo },
  LinearAttributes & { hasBias: boolean }
>("EspalierLinearGrad", (frame, { dy, x, weight }, { weightLayout, precision = "fp32", hasBias }) => {
  const gradient = operand(frame, dy, precision);
  const dx = inputGradient(frame, gradient, operand(frame, weight, precision), weightLayout);
  const dWeight = weightGradient(frame, operand(frame, x, precision), gradient, weightLayout);
  const results = [frame.output(dx, "float32"), frame.output(dWeight, "float32")];
  if (hasBias) results.push(frame.output(columnSums(frame, gradient), "float32"));
  return results;
});

interface StackedLinearAttributes {
  /** Linear layers of the same input: weights `weight0`, … [out, in] and biases `bias0`, … */
  count: number;
  precision: Precision;
}

function numbered(frame: Frame, inputs: NamedTensorInfoMap, name: string, count: number): TensorInfo[] {
  return Array.from({ length: count }, (_, index) => {
    const input = inputs[`${name}${index}`];
    if (input === undefined) throw new Error(`${frame.kernelName}: input ${name}${index} is missing`);
    return input;
  });
}

function given(frame: Frame, inputs: NamedTensorInfoMap, name: string): TensorInfo {
  const input = inputs[name];
  if (input === undefined) throw new Error(`${frame.kernelName}: input ${name} is missing`);
  return input;
}

/** One weight [sum of out, in] of several, as they stand over each other. */
function stacked(frame: Frame, infos: readonly TensorInfo[], precision: Precision): NativeTensor {
  return frame.call(
    operators.cat,
    infos.map((info) => operand(frame, info, precision)),
    0,
  );
}

/** x [rows, in] → the layers' results side by side [rows, sum of out]: one product */
const stackedLinear = kernel<NamedTensorInfoMap, StackedLinearAttributes>(
  "EspalierStackedLinear",
  (frame, inputs, { count, precision }) => {
    const y = multiply(
      frame,
      operand(frame, given(frame, inputs, "x"), precision),
      stacked(frame, numbered(frame, inputs, "weight", count), precision),
      "out_in",
      stacked(frame, numbered(frame, inputs, "bias", count), precision),
    );
    return frame.output(y, "float32");
  },
);

/** dy [rows, sum of out] → [dx, dWeight0, …, dBias0, …] */
const stackedLinearGrad = kernel<NamedTensorInfoMap, StackedLinearAttributes>(
  "EspalierStackedLinearGrad",
  (frame, inputs, { count, precision }) => {
    const weights = numbered(frame, inputs, "weight", count);
    const sizes = weights.map((weight) => weight.shape[0] ?? 0);
    const dy = operand(frame, given(frame, inputs, "dy"), precision);
    const dx = inputGradient(frame, dy, stacked(frame, weights, precision), "out_in");
    const x = operand(frame, given(frame, inputs, "x"), precision);
    const dWeights = frame.callList(operators.split, weightGradient(frame, x, dy, "out_in"), sizes, 0);
    const dBiases = frame.callList(operators.split, columnSums(frame, dy), sizes, 0);
    return [dx, ...dWeights, ...dBiases].map((gradient) => frame.output(gradient as NativeTensor, "float32"));
  },
);

/** Linear layers and their gradients. */
export const linearKernels: readonly Kernel[] = [linear, linearGrad, stackedLinear, stackedLinearGrad];
