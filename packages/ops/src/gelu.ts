import * as tf from "@tensorflow/tfjs";
import { differentiable } from "./differentiable.js";
import { fusedKernel } from "./kernel.js";

/** `none` is x·Φ(x) (BERT); `tanh` its approximation (GPT-2, Hugging Face's `gelu_new`). */
export type GeluApproximation = "none" | "tanh";

/** Gaussian error linear unit (Hendrycks & Gimpel 2016), element by element. */
export function gelu(x: tf.Tensor2D, approximate: GeluApproximation): tf.Tensor2D {
  return differentiable([x], () => {
    const kernel = fusedKernel("EspalierGelu");
    const gradientKernel = fusedKernel("EspalierGeluGrad");
    if (kernel && gradientKernel) {
      const [value] = kernel({ x }, { approximate });
      return {
        value: value as tf.Tensor2D,
        saved: [x],
        backward: (dy, [x]) => gradientKernel({ dy, x: x! }, { approximate }),
      };
    }
    return {
      value: approximate === "none" ? exact(x) : approximated(x),
      saved: [x],
      backward: (dy, [x]) => [dy.mul(approximate === "none" ? exactSlope(x!) : approximatedSlope(x!))],
    };
  });
}

function normalDistribution<T extends tf.Tensor>(x: T): T {
  return x.mul<T>(Math.SQRT1_2).erf().add<T>(1).mul(0.5);
}

function exact<T extends tf.Tensor>(x: T): T {
  return x.mul(normalDistribution(x));
}

function exactSlope(x: tf.Tensor): tf.Tensor {
  const density = x
    .square()
    .mul(-0.5)
    .exp()
    .mul(1 / Math.sqrt(2 * Math.PI));
  return normalDistribution(x).add(x.mul(density));
}

const scale = Math.sqrt(2 / Math.PI);
const cubic = 0.044715;

function innerTanh<T extends tf.Tensor>(x: T): T {
  return x.square().mul(cubic).add(1).mul(x).mul<T>(scale).tanh();
}

function approximated<T extends tf.Tensor>(x: T): T {
  return innerTanh(x).add<T>(1).mul<T>(x).mul(0.5);
}

function approximatedSlope(x: tf.Tensor): tf.Tensor {
  const tanh = innerTanh(x);
  const inner = x
    .square()
    .mul(3 * cubic)
    .add(1)
    .mul(scale);
  const slope = tf.sub(1, tanh.square()).mul(inner).mul(x);
  return tanh.add(1).add(slope).mul(0.5);
}
