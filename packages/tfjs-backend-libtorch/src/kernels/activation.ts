import type { TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import type { Frame } from "../kernel.js";

const operators = {
  relu: aten("relu"),
  relu6: aten("relu6"),
  elu: aten("elu"),
  sigmoid: aten("sigmoid"),
  leakyRelu: aten("leaky_relu"),
  less: aten("lt.Scalar"),
  mul: aten("mul.Tensor"),
  where: aten("where.self"),
  reshape: aten("reshape"),
};

/** The activation at the end of a fused kernel. */
export interface Activation {
  readonly activation?: string | null | undefined;
  readonly leakyreluAlpha?: number | undefined;
  /** The slopes of `prelu` below zero. */
  readonly slopes?: TensorInfo | undefined;
  /** The shape to give `slopes`, where they do not broadcast as they are. */
  readonly slopesShape?: readonly number[] | undefined;
}

/**
 * Applies the activation of a fused kernel.
 *
 * @throws for a name that TensorFlow.js's fused kernels do not have
 */
export function activated(
  frame: Frame,
  x: NativeTensor,
  { activation, leakyreluAlpha = 0.2, slopes, slopesShape }: Activation,
): NativeTensor {
  switch (activation ?? "linear") {
    case "linear":
      return x;
    case "relu":
      return frame.call(operators.relu, x);
    case "relu6":
      return frame.call(operators.relu6, x);
    case "elu":
      return frame.call(operators.elu, x);
    case "sigmoid":
      return frame.call(operators.sigmoid, x);
    case "leakyrelu":
      return frame.call(operators.leakyRelu, x, leakyreluAlpha);
    case "prelu": {
      if (slopes === undefined)
        throw new Error(`${frame.kernelName}: the activation prelu needs its weights`);
      const given = frame.tensor(slopes);
      const factor = slopesShape === undefined ? given : frame.call(operators.reshape, given, slopesShape);
      const below = frame.call(operators.mul, x, factor);
      return frame.call(operators.where, frame.call(operators.less, x, 0), below, x);
    }
    default:
      throw new Error(`${frame.kernelName}: unknown activation '${activation}'`);
  }
}
