import type { TensorInfo } from "@tensorflow/tfjs";
import { aten } from "../../aten.js";
import { type Kernel, kernel } from "../../kernel.js";

const operators = { forward: aten("gelu"), backward: aten("gelu_backward") };

interface GeluAttributes {
  /** `none`: with the error function; `tanh`: GPT-2's approximation. */
  approximate: "none" | "tanh";
}

const gelu = kernel<{ x: TensorInfo }, GeluAttributes>("EspalierGelu", (frame, { x }, { approximate }) =>
  frame.output(frame.call(operators.forward, frame.tensor(x), approximate), "float32"),
);

const geluGrad = kernel<{ dy: TensorInfo; x: TensorInfo }, GeluAttributes>(
  "EspalierGeluGrad",
  (frame, { dy, x }, { approximate }) =>
    frame.output(frame.call(operators.backward, frame.tensor(dy), frame.tensor(x), approximate), "float32"),
);

/** The Gaussian error linear unit and its gradient. */
export const geluKernels: readonly Kernel[] = [gelu, geluGrad];
