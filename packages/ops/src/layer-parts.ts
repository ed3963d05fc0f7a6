import type { Precision } from "@espalier/core";
import type * as tf from "@tensorflow/tfjs";
import { differentiable } from "./differentiable.js";
import { dropout } from "./dropout.js";
import { type GeluApproximation, gelu } from "./gelu.js";
import { fusedKernel } from "./kernel.js";
import { layerNorm } from "./layer-norm.js";
import { type LinearParameters, linear, type WeightLayout } from "./linear.js";
import { addResidual } from "./residual.js";

// The parts of a Transformer's layer beside attention, each one node on the tape. An engine's own kernels keep less
// between forward and backward pass than their composition, and go through memory less often.

/** A layer normalisation's parameters, both `[hidden]`. */
export interface NormParameters {
  readonly gain: tf.Tensor1D;
  readonly bias: tf.Tensor1D;
  readonly epsilon: number;
}

/** How a part of a layer computes. */
export interface PartOptions {
  readonly weightLayout: WeightLayout;
  /** Of the products; engines without bf16 compute in fp32. */
  readonly precision: Precision;
}

/** Dropout before a residual connection: see {@link dropout}. */
export interface DropoutOptions {
  readonly rate: number;
  readonly seed: number;
}

/**
 * layerNorm(x)·W + b: the entrance of a pre-norm part.
 *
 * @param x `[rows, hidden]`
 * @returns `[rows, out]`
 */
export function normLinear(
  x: tf.Tensor2D,
  norm: NormParameters,
  { weight, bias }: LinearParameters,
  options: PartOptions,
): tf.Tensor2D {
  const { gain, bias: shift, epsilon } = norm;
  const kernel = fusedKernel("EspalierNormLinear");
  const gradientKernel = fusedKernel("EspalierNormLinearGrad");
  if (!kernel || !gradientKernel)
    return linear(layerNorm(x, gain, shift, epsilon), weight, bias, options.weightLayout);
  const attributes = { ...options, epsilon };
  return differentiable([x, weight, bias, gain, shift], () => {
    const [value, normal, mean, rstd] = kernel({ x, weight, bias, gain, shift }, attributes);
    return {
      value: value as tf.Tensor2D,
      saved: [x, weight, gain, shift, normal!, mean!, rstd!],
      backward: (dy, saved) =>
        gradientKernel(
          { dy, ...named(["x", "weight", "gain", "shift", "normal", "mean", "rstd"], saved) },
          attributes,
        ),
    };
  });
}

/**
 * residual + dropout(x·W + b): the exit of a pre-norm part.
 *
 * @param x `[rows, in]`
 * @param residual `[rows, hidden]`
 * @returns `[rows, hidden]`
 */
export function residualLinear(
  x: tf.Tensor2D,
  { weight, bias }: LinearParameters,
  residual: tf.Tensor2D,
  drop: DropoutOptions,
  options: PartOptions,
): tf.Tensor2D {
  const kernel = fusedKernel("EspalierResidualLinear");
  const gradientKernel = fusedKernel("EspalierResidualLinearGrad");
  if (!kernel || !gradientKernel) {
    const branch = linear(x, weight, bias, options.weightLayout);
    return addResidual(residual, dropout(branch, drop.rate, drop.seed));
  }
  const attributes = { ...options, ...drop };
  return differentiable([x, weight, bias, residual], () => ({
    value: kernel({ x, weight, bias, residual }, attributes)[0] as tf.Tensor2D,
    saved: [x, weight],
    backward: (dy, saved) => [
      ...gradientKernel({ dy, ...named(["x", "weight"], saved) }, attributes),
      dy.clone(),
    ],
  }));
}

/**
 * layerNorm(residual + dropout(x·W + b)): the exit of a post-norm part.
 *
 * @param x `[rows, in]`
 * @param residual `[rows, hidden]`
 * @returns `[rows, hidden]`
 */
export function residualLinearNorm(
  x: tf.Tensor2D,
  { weight, bias }: LinearParameters,
  residual: tf.Tensor2D,
  drop: DropoutOptions,
  norm: NormParameters,
  options: PartOptions,
): tf.Tensor2D {
  const { gain, bias: shift, epsilon } = norm;
  const kernel = fusedKernel("EspalierResidualLinearNorm");
  const gradientKernel = fusedKernel("EspalierResidualLinearNormGrad");
  if (!kernel || !gradientKernel)
    return layerNorm(residualLinear(x, { weight, bias }, residual, drop, options), gain, shift, epsilon);
  const attributes = { ...options, ...drop, epsilon };
  return differentiable([x, weight, bias, residual, gain, shift], () => {
    const [value, sum, mean, rstd] = kernel({ x, weight, bias, residual, gain, shift }, attributes);
    return {
      value: value as tf.Tensor2D,
      saved: [x, weight, gain, shift, sum!, mean!, rstd!],
      backward: (dy, saved) =>
        gradientKernel(
          { dy, ...named(["x", "weight", "gain", "shift", "sum", "mean", "rstd"], saved) },
          attributes,
        ),
    };
  });
}

/** The feed-forward part of a layer. */
export interface FeedForwardOptions extends PartOptions {
  readonly activation: GeluApproximation;
  /** `before`: x + dropout(f(layerNorm(x))), GPT-2; `after`: layerNorm(x + dropout(f(x))), BERT. */
  readonly norm: "before" | "after";
}

/**
 * Feed-forward part with its residual connection and layer normalisation; f(x) = gelu(x·W₁ + b₁)·W₂ + b₂.
 *
 * @param x `[rows, hidden]`
 * @returns `[rows, hidden]`
 */
export function feedForward(
  x: tf.Tensor2D,
  first: LinearParameters,
  second: LinearParameters,
  norm: NormParameters,
  drop: DropoutOptions,
  options: FeedForwardOptions,
): tf.Tensor2D {
  const name = options.norm === "before" ? "EspalierFeedForwardPreNorm" : "EspalierFeedForwardPostNorm";
  const kernel = fusedKernel(name);
  const gradientKernel = fusedKernel(`${name}Grad`);
  const { gain, bias: shift, epsilon } = norm;
  if (!kernel || !gradientKernel) {
    const { weightLayout } = options;
    const entering = options.norm === "before" ? layerNorm(x, gain, shift, epsilon) : x;
    const activated = gelu(linear(entering, first.weight, first.bias, weightLayout), options.activation);
    const branch = linear(activated, second.weight, second.bias, weightLayout);
    const sum = addResidual(x, dropout(branch, drop.rate, drop.seed));
    return options.norm === "before" ? sum : layerNorm(sum, gain, shift, epsilon);
  }
  const { weightLayout, precision, activation } = options;
  const attributes = { weightLayout, precision, approximate: activation, ...drop, epsilon };
  const { weight: weight1, bias: bias1 } = first;
  const { weight: weight2, bias: bias2 } = second;
  return differentiable([x, weight1, bias1, weight2, bias2, gain, shift], () => {
    const inputs = { x, weight1, bias1, weight2, bias2, gain, shift };
    const [value, inner, middle, mean, rstd] = kernel(inputs, attributes);
    const kept = ["x", "weight1", "bias1", "weight2", "gain", "shift", "inner", "mean", "rstd"];
    const between = options.norm === "before" ? "normal" : "sum";
    return {
      value: value as tf.Tensor2D,
      saved: [x, weight1, bias1, weight2, gain, shift, inner!, mean!, rstd!, middle!],
      backward: (dy, saved) => gradientKernel({ dy, ...named([...kept, between], saved) }, attributes),
    };
  });
}

/** Tensors by the names that a kernel gives its inputs. */
function named(names: readonly string[], tensors: readonly tf.Tensor[]): tf.NamedTensorMap {
  return Object.fromEntries(names.map((name, index) => [name, tensors[index]!]));
}
