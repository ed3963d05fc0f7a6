import type { NamedTensorInfoMap, TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { aten } from "../../aten.js";
import { type Frame, type Kernel, kernel } from "../../kernel.js";
import { exclusive } from "./in-place.js";

const operators = {
  addScalar: aten("_foreach_add_.Scalar"),
  adamW: aten("_fused_adamw_"),
  norms: aten("_foreach_norm.Scalar"),
  stack: aten("stack"),
  vectorNorm: aten("linalg_vector_norm"),
  multiply: aten("_foreach_mul_.Tensor"),
  plus: aten("add.Scalar"),
  reciprocal: aten("reciprocal"),
  times: aten("mul.Scalar"),
  clampMax: aten("clamp_max"),
  full: aten("full"),
};

/** The inputs `<name>0`, `<name>1`, ... */
function numbered(frame: Frame, inputs: NamedTensorInfoMap, name: string, count: number): TensorInfo[] {
  return Array.from({ length: count }, (_, index) => {
    const input = inputs[`${name}${index}`];
    if (input === undefined) throw new Error(`${frame.kernelName}: input ${name}${index} is missing`);
    return input;
  });
}

interface AdamWAttributes {
  count: number;
  learningRate: number;
  /** One for each parameter. */
  weightDecays: number[];
  beta1: number;
  beta2: number;
  epsilon: number;
}

/**
 * One step of AdamW with decoupled weight decay, in place: inputs `weight`, `grad`, `first`, `second` (moments) and
 * `step` (a float32 scalar, the updates before this one), each numbered from 0.
 */
const adamW = kernel<NamedTensorInfoMap, AdamWAttributes>("EspalierAdamW", (frame, inputs, attrs) => {
  const { count, learningRate, weightDecays, beta1, beta2, epsilon } = attrs;
  if (weightDecays.length !== count) {
    throw new Error(`EspalierAdamW: ${count} parameters, but ${weightDecays.length} weight decays`);
  }
  if (count === 0) return [];
  const changed = (name: string) =>
    numbered(frame, inputs, name, count).map((input) => exclusive(frame, input));
  // The fused kernel walks through memory and takes no strides.
  const gradients = numbered(frame, inputs, "grad", count).map((input) => frame.contiguous(input));
  const weights = changed("weight");
  const first = changed("first");
  const second = changed("second");
  const steps = changed("step");
  // First of all: the bias correction divides by 1 - beta^step, which is 0 at step 0.
  frame.callInPlace(operators.addScalar, steps, 1);
  for (const weightDecay of new Set(weightDecays)) {
    const group = <T>(list: readonly T[]) => list.filter((_, index) => weightDecays[index] === weightDecay);
    frame.callInPlace(
      operators.adamW,
      group(weights),
      group(gradients),
      group(first),
      group(second),
      [],
      group(steps),
      learningRate,
      beta1,
      beta2,
      weightDecay,
      epsilon,
      false,
      false,
    );
  }
  return [];
});

/** x0, x1, ... → the L2 norm over all of their elements, a float32 scalar */
const globalNorm = kernel<NamedTensorInfoMap, { count: number }>(
  "EspalierGlobalNorm",
  (frame, inputs, { count }) => {
    if (count === 0) {
      return frame.output(
        frame.call(operators.full, [], 0, "float32", undefined, frame.backend.device),
        "float32",
      );
    }
    const tensors = numbered(frame, inputs, "x", count).map((input) => frame.tensor(input));
    const norms = frame.callList(operators.norms, tensors, 2);
    const total = frame.call(operators.vectorNorm, frame.call(operators.stack, norms, 0));
    return frame.output(total, "float32");
  },
);

/** Multiplies x0, x1, ... in place by min(1, maxNorm / (norm + 1e-6)); the norm is not read back to the host. */
const scaleByClip = kernel<NamedTensorInfoMap, { count: number; maxNorm: number }>(
  "EspalierScaleByClip",
  (frame, inputs, { count, maxNorm }) => {
    if (count === 0) return [];
    const scaled = frame.call(operators.plus, frame.tensor(inputs.norm as TensorInfo), 1e-6);
    const ratio = frame.call(operators.times, frame.call(operators.reciprocal, scaled), maxNorm);
    const factor = frame.call(operators.clampMax, ratio, 1);
    // Two gradients may be one and the same tensor, which must be scaled once.
    const seen = new Set<object>();
    const targets: NativeTensor[] = [];
    for (const input of numbered(frame, inputs, "x", count)) {
      if (seen.has(input)) continue;
      seen.add(input);
      targets.push(exclusive(frame, input));
    }
    frame.callInPlace(operators.multiply, targets, factor);
    return [];
  },
);

/** AdamW, gradient norms and clipping over all parameters at once. */
export const optimizerKernels: readonly Kernel[] = [adamW, globalNorm, scaleByClip];
