import type { TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { aten } from "../../aten.js";
import { type Kernel, kernel } from "../../kernel.js";
import { float32 } from "./products.js";

const operators = {
  forward: aten("native_layer_norm"),
  backward: aten("native_layer_norm_backward"),
};

interface LayerNormAttributes {
  /** Added to the variance. */
  epsilon: number;
}

/** x [rows, n] → [y [rows, n], mean [rows, 1], reciprocal standard deviation [rows, 1]] */
const layerNorm = kernel<{ x: TensorInfo; gain: TensorInfo; bias: TensorInfo }, LayerNormAttributes>(
  "EspalierLayerNorm",
  (frame, { x, gain, bias }, { epsilon }) => {
    const results = frame.callList(
      operators.forward,
      float32(frame, frame.tensor(x)),
      gain.shape,
      frame.tensor(gain),
      frame.tensor(bias),
      epsilon,
    );
    return results.map((result) => frame.output(result as NativeTensor, "float32"));
  },
);

interface LayerNormGradInputs {
  dy: TensorInfo;
  x: TensorInfo;
  gain: TensorInfo;
  bias: TensorInfo;
  mean: TensorInfo;
  rstd: TensorInfo;
}

/** dy [rows, n] → [dx [rows, n], dGain [n], dBias [n]] */
const layerNormGrad = kernel<LayerNormGradInputs, LayerNormAttributes>(
  "EspalierLayerNormGrad",
  (frame, { dy, x, gain, bias, mean, rstd }) => {
    const results = frame.callList(
      operators.backward,
      float32(frame, frame.tensor(dy)),
      float32(frame, frame.tensor(x)),
      gain.shape,
      frame.tensor(mean),
      frame.tensor(rstd),
      frame.tensor(gain),
      frame.tensor(bias),
      [true, true, true],
    );
    return results.map((result) => frame.output(result as NativeTensor, "float32"));
  },
);

/** Layer normalisation and its gradient. */
export const layerNormKernels: readonly Kernel[] = [layerNorm, layerNormGrad];
