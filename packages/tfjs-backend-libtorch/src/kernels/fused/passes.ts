import type { NativeTensor, NativeType } from "../../addon.js";
import { aten, ownOperator } from "../../aten.js";
import type { Frame } from "../../kernel.js";
import { drawnMask } from "./dropout.js";
import { float32 } from "./products.js";

/** Dropout of one place: the probability to drop, and what the mask is drawn from (uint32). */
export interface Drop {
  readonly rate: number;
  readonly seed: number;
}

/** `none`: with the error function; `tanh`: GPT-2's approximation. */
export type Approximation = "none" | "tanh";

/** The parameters of a layer normalisation. */
export interface Norm {
  readonly gain: NativeTensor;
  readonly shift: NativeTensor;
  readonly epsilon: number;
}

/** What a normalisation keeps for its gradient. */
export interface Statistics {
  readonly mean: NativeTensor;
  readonly rstd: NativeTensor;
}

/**
 * What happens between matrix products, in as few passes over memory as a device allows. The CPU has operators of our
 * own; elsewhere the same is composed of ATen's.
 *
 * What a product gives or takes (x, branch, dBranch) is float32 or bfloat16; residual stream, statistics and gradients
 * of vectors are float32.
 */
export interface Passes {
  /**
   * Whether the product adds its bias by itself. If not, the pass after it does, which costs nothing there and a pass
   * over the result in a product on the CPU.
   */
  readonly biasInProduct: boolean;
  /** gelu(x + bias) */
  gelu(frame: Frame, x: NativeTensor, bias: NativeTensor, approximate: Approximation): NativeTensor;
  /** The activation anew, and the gradients of x and bias. May use the memory of `dy` and `x`. */
  geluGradient(
    frame: Frame,
    dy: NativeTensor,
    x: NativeTensor,
    bias: NativeTensor,
    approximate: Approximation,
  ): { activated: NativeTensor; dx: NativeTensor; dBias: NativeTensor };
  /** residual + dropout(branch + bias). May use the memory of `branch`. */
  addResidual(
    frame: Frame,
    branch: NativeTensor,
    bias: NativeTensor,
    residual: NativeTensor,
    drop: Drop,
  ): NativeTensor;
  addResidualGradient(
    frame: Frame,
    dy: NativeTensor,
    drop: Drop,
    type: NativeType,
  ): { dBranch: NativeTensor; dBias: NativeTensor };
  /** The sum of `addResidual`, and its normalisation: float32, and in bfloat16 too if wanted. */
  addNormalised(
    frame: Frame,
    branch: NativeTensor,
    bias: NativeTensor,
    residual: NativeTensor,
    norm: Norm,
    drop: Drop,
    withHalf: boolean,
  ): Statistics & { sum: NativeTensor; y: NativeTensor; half: NativeTensor | null };
  /** `dBranch` may be `dSum` itself. */
  addNormalisedGradient(
    frame: Frame,
    dy: NativeTensor,
    sum: NativeTensor,
    statistics: Statistics,
    norm: Norm,
    drop: Drop,
    type: NativeType,
  ): {
    dSum: NativeTensor;
    dBranch: NativeTensor;
    dGain: NativeTensor;
    dShift: NativeTensor;
    dBias: NativeTensor;
  };
  /** Layer normalisation, given out in one type. */
  normalise(frame: Frame, x: NativeTensor, norm: Norm, type: NativeType): Statistics & { y: NativeTensor };
  /** The gradient of x has `plus` added to it. */
  normaliseGradient(
    frame: Frame,
    dy: NativeTensor,
    x: NativeTensor,
    statistics: Statistics,
    norm: Norm,
    plus: NativeTensor | null,
  ): { dx: NativeTensor; dGain: NativeTensor; dShift: NativeTensor };
}

/** The passes for the device of a call. */
export function passesFor(frame: Frame): Passes {
  return frame.backend.device === "cpu" ? own : composed;
}

const operators = {
  biasGelu: ownOperator("bias_gelu"),
  biasGeluBackward: ownOperator("bias_gelu_backward_"),
  addResidual: ownOperator("add_residual"),
  addResidualBackward: ownOperator("add_residual_backward"),
  residualLayerNorm: ownOperator("residual_layer_norm"),
  layerNorm: ownOperator("layer_norm"),
  layerNormBackward: ownOperator("layer_norm_backward"),
  gelu: aten("gelu"),
  geluBackward: aten("gelu_backward"),
  add: aten("add.Tensor"),
  multiply: aten("mul.Tensor"),
  sum: aten("sum.dim_IntList"),
  nativeLayerNorm: aten("native_layer_norm"),
  nativeLayerNormBackward: aten("native_layer_norm_backward"),
};

/** The results of an operator that leaves none of them undefined. */
function whole(results: readonly (NativeTensor | null)[]): NativeTensor[] {
  return results.map((result) => {
    if (result === null) throw new Error("libtorch: an operator left a result out");
    return result;
  });
}

/** The sum of a matrix's rows, float32. */
export function columnSums(frame: Frame, matrix: NativeTensor): NativeTensor {
  return frame.call(operators.sum, matrix, [0], false, "float32");
}

const own: Passes = {
  biasInProduct: false,
  gelu: (frame, x, bias, approximate) => frame.call(operators.biasGelu, x, bias, approximate),
  geluGradient(frame, dy, x, bias, approximate) {
    const dBias = frame.call(operators.biasGeluBackward, dy, x, bias, approximate);
    return { activated: x, dx: dy, dBias };
  },
  addResidual: (frame, branch, bias, residual, { rate, seed }) =>
    frame.call(operators.addResidual, branch, bias, residual, rate, seed),
  addResidualGradient(frame, dy, { rate, seed }, type) {
    if (rate === 0 && type === "float32") return { dBranch: dy, dBias: columnSums(frame, dy) };
    const [dBranch, dBias] = whole(frame.callList(operators.addResidualBackward, dy, rate, seed, type));
    return { dBranch: dBranch!, dBias: dBias! };
  },
  addNormalised(frame, branch, bias, residual, { gain, shift, epsilon }, { rate, seed }, withHalf) {
    const [sum, y, half, mean, rstd] = frame.callList(
      operators.residualLayerNorm,
      branch,
      bias,
      residual,
      gain,
      shift,
      epsilon,
      rate,
      seed,
      withHalf,
    );
    return { sum: sum!, y: y!, half: half ?? null, mean: mean!, rstd: rstd! };
  },
  addNormalisedGradient(frame, dy, sum, { mean, rstd }, { gain }, { rate, seed }, type) {
    const [dSum, dGain, dShift, dBranch, dBias] = frame.callList(
      operators.layerNormBackward,
      dy,
      sum,
      mean,
      rstd,
      gain,
      null,
      rate,
      seed,
      type,
    );
    return { dSum: dSum!, dBranch: dBranch ?? dSum!, dGain: dGain!, dShift: dShift!, dBias: dBias! };
  },
  normalise(frame, x, { gain, shift, epsilon }, type) {
    const [y, mean, rstd] = whole(frame.callList(operators.layerNorm, x, gain, shift, epsilon, type));
    return { y: y!, mean: mean!, rstd: rstd! };
  },
  normaliseGradient(frame, dy, x, { mean, rstd }, { gain }, plus) {
    const [dx, dGain, dShift] = frame.callList(
      operators.layerNormBackward,
      dy,
      x,
      mean,
      rstd,
      gain,
      plus,
      0,
      0,
      null,
    );
    return { dx: dx!, dGain: dGain!, dShift: dShift! };
  },
};

function dropped(frame: Frame, x: NativeTensor, { rate, seed }: Drop): NativeTensor {
  if (rate === 0) return x;
  const mask = drawnMask(frame, x, { rate, seed, offset: 0 });
  return frame.call(operators.multiply, x, mask);
}

const composed: Passes = {
  biasInProduct: true,
  gelu: (frame, x, _bias, approximate) => frame.call(operators.gelu, x, approximate),
  geluGradient(frame, dy, x, _bias, approximate) {
    const dx = frame.call(operators.geluBackward, dy, x, approximate);
    return {
      activated: frame.call(operators.gelu, x, approximate),
      dx,
      dBias: columnSums(frame, dx),
    };
  },
  addResidual: (frame, branch, bias, residual, drop) =>
    frame.call(
      operators.add,
      residual,
      dropped(frame, frame.call(operators.add, float32(frame, branch), bias), drop),
    ),
  addResidualGradient(frame, dy, drop, type) {
    const dBranch = dropped(frame, dy, drop);
    const dBias = columnSums(frame, dBranch);
    return { dBranch: type === "float32" ? dBranch : frame.cast(dBranch, type), dBias };
  },
  addNormalised(frame, branch, bias, residual, norm, drop, withHalf) {
    const sum = composed.addResidual(frame, branch, bias, residual, drop);
    const { y, mean, rstd } = composed.normalise(frame, sum, norm, "float32");
    return { sum, y, mean, rstd, half: withHalf ? frame.cast(y, "bfloat16") : null };
  },
  addNormalisedGradient(frame, dy, sum, statistics, norm, drop, type) {
    const { dx, dGain, dShift } = composed.normaliseGradient(frame, dy, sum, statistics, norm, null);
    return { dSum: dx, dGain, dShift, ...composed.addResidualGradient(frame, dx, drop, type) };
  },
  normalise(frame, x, { gain, shift, epsilon }, type) {
    const size = frame.backend.addon.describe(gain).slice(0, 1);
    const [y, mean, rstd] = whole(frame.callList(operators.nativeLayerNorm, x, size, gain, shift, epsilon));
    return { y: type === "float32" ? y! : frame.cast(y!, type), mean: mean!, rstd: rstd! };
  },
  normaliseGradient(frame, dy, x, { mean, rstd }, { gain, shift }, plus) {
    const size = frame.backend.addon.describe(gain).slice(0, 1);
    const [dx, dGain, dShift] = whole(
      frame.callList(
        operators.nativeLayerNormBackward,
        float32(frame, dy),
        x,
        size,
        mean,
        rstd,
        gain,
        shift,
        [true, true, true],
      ),
    );
    return {
      dx: plus === null ? dx! : frame.call(operators.add, dx!, plus),
      dGain: dGain!,
      dShift: dShift!,
    };
  },
};
