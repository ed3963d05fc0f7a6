import type { TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { type Frame, type Kernel, kernel } from "../../kernel.js";
import { exclusive } from "./in-place.js";
import { type Approximation, columnSums, type Norm, passesFor, type Statistics } from "./passes.js";
import {
  addInputGradient,
  elementType,
  float32,
  inputGradient,
  multiply,
  operand,
  type Precision,
  type WeightLayout,
  weightGradient,
} from "./products.js";

// The parts of a layer that end in a residual connection, each as one kernel and one gradient: what lies between the
// products never leaves them, and what is cheap to compute again (activations, dropout's masks) is not kept.

interface BlockAttributes {
  weightLayout: WeightLayout;
  precision: Precision;
  /** Of dropout before the residual connection: probability, and a uint32. */
  rate: number;
  seed: number;
  /** Of layer normalisation. */
  epsilon: number;
}

interface NormInputs {
  gain: TensorInfo;
  shift: TensorInfo;
}

function normOf(frame: Frame, { gain, shift }: NormInputs, epsilon: number): Norm {
  return { gain: frame.contiguous(gain), shift: frame.contiguous(shift), epsilon };
}

/** A float32 input, row after row in memory. */
function rows(frame: Frame, info: TensorInfo): NativeTensor {
  return float32(frame, frame.contiguous(info));
}

function outputs(frame: Frame, ...tensors: NativeTensor[]): TensorInfo[] {
  return tensors.map((tensor) => frame.output(tensor, "float32"));
}

function statistics(frame: Frame, { mean, rstd }: { mean: TensorInfo; rstd: TensorInfo }): Statistics {
  return { mean: frame.tensor(mean), rstd: frame.tensor(rstd) };
}

/** The normalised rows as a result, with the copy in bfloat16 that the next linear layer will ask for. */
function normalisedOutput(frame: Frame, y: NativeTensor, half: NativeTensor | null): TensorInfo {
  const info = frame.output(y, "float32");
  if (half !== null) frame.backend.keepHalf(info.dataId, frame.release(half));
  return info;
}

interface ProjectionInputs {
  x: TensorInfo;
  weight: TensorInfo;
  bias: TensorInfo;
  residual: TensorInfo;
}

/** x [rows, in], residual [rows, hidden] → residual + dropout(x·W + b) */
const projection = kernel<ProjectionInputs, BlockAttributes>(
  "EspalierResidualLinear",
  (frame, { x, weight, bias, residual }, { weightLayout, precision, rate, seed }) => {
    const passes = passesFor(frame);
    const branch = multiply(
      frame,
      operand(frame, x, precision),
      operand(frame, weight, precision),
      weightLayout,
    );
    const y = passes.addResidual(frame, branch, frame.contiguous(bias), rows(frame, residual), {
      rate,
      seed,
    });
    return outputs(frame, y);
  },
);

/** → [dx, dWeight, dBias]; the gradient of the residual is dy itself */
const projectionGrad = kernel<{ dy: TensorInfo; x: TensorInfo; weight: TensorInfo }, BlockAttributes>(
  "EspalierResidualLinearGrad",
  (frame, { dy, x, weight }, { weightLayout, precision, rate, seed }) => {
    const { dBranch, dBias } = passesFor(frame).addResidualGradient(
      frame,
      rows(frame, dy),
      { rate, seed },
      elementType(precision),
    );
    const dx = inputGradient(frame, dBranch, operand(frame, weight, precision), weightLayout);
    const dWeight = weightGradient(frame, operand(frame, x, precision), dBranch, weightLayout);
    return outputs(frame, dx, dWeight, dBias);
  },
);

/** x [rows, in], residual [rows, hidden] → [normalise(residual + dropout(x·W + b)), and what the gradient needs] */
const normalisedProjection = kernel<ProjectionInputs & NormInputs, BlockAttributes>(
  "EspalierResidualLinearNorm",
  (frame, inputs, { weightLayout, precision, rate, seed, epsilon }) => {
    const branch = multiply(
      frame,
      operand(frame, inputs.x, precision),
      operand(frame, inputs.weight, precision),
      weightLayout,
    );
    const { y, half, sum, mean, rstd } = passesFor(frame).addNormalised(
      frame,
      branch,
      frame.contiguous(inputs.bias),
      rows(frame, inputs.residual),
      normOf(frame, inputs, epsilon),
      { rate, seed },
      precision === "bf16",
    );
    return [normalisedOutput(frame, y, half), ...outputs(frame, sum, mean, rstd)];
  },
);

interface NormalisedGradInputs extends NormInputs {
  dy: TensorInfo;
  x: TensorInfo;
  sum: TensorInfo;
  mean: TensorInfo;
  rstd: TensorInfo;
}

/** → [dx, dWeight, dBias, dResidual, dGain, dShift] */
const normalisedProjectionGrad = kernel<NormalisedGradInputs & { weight: TensorInfo }, BlockAttributes>(
  "EspalierResidualLinearNormGrad",
  (frame, inputs, { weightLayout, precision, rate, seed, epsilon }) => {
    const { dSum, dBranch, dBias, dGain, dShift } = passesFor(frame).addNormalisedGradient(
      frame,
      rows(frame, inputs.dy),
      frame.tensor(inputs.sum),
      statistics(frame, inputs),
      normOf(frame, inputs, epsilon),
      { rate, seed },
      elementType(precision),
    );
    const dx = inputGradient(frame, dBranch, operand(frame, inputs.weight, precision), weightLayout);
    const dWeight = weightGradient(frame, operand(frame, inputs.x, precision), dBranch, weightLayout);
    return outputs(frame, dx, dWeight, dBias, dSum, dGain, dShift);
  },
);

interface FeedForwardInputs extends NormInputs {
  x: TensorInfo;
  weight1: TensorInfo;
  bias1: TensorInfo;
  weight2: TensorInfo;
  bias2: TensorInfo;
}

interface FeedForwardAttributes extends BlockAttributes {
  approximate: Approximation;
}

/** A product, the activation, a product: x [rows, hidden] → [the second one's result without its bias, the first one's] */
function feedForward(
  frame: Frame,
  x: NativeTensor,
  inputs: FeedForwardInputs,
  { weightLayout, precision, approximate }: FeedForwardAttributes,
): { branch: NativeTensor; inner: NativeTensor } {
  const passes = passesFor(frame);
  const weight = operand(frame, inputs.weight1, precision);
  const bias = frame.contiguous(inputs.bias1);
  const inner = passes.biasInProduct
    ? multiply(frame, x, weight, weightLayout, operand(frame, inputs.bias1, precision))
    : multiply(frame, x, weight, weightLayout);
  const activated = passes.gelu(frame, inner, bias, approximate);
  return {
    branch: multiply(frame, activated, operand(frame, inputs.weight2, precision), weightLayout),
    inner,
  };
}

interface FeedForwardGradInputs {
  inner: TensorInfo;
  weight1: TensorInfo;
  bias1: TensorInfo;
  weight2: TensorInfo;
}

/** The gradients of {@link feedForward}, that of its x excepted; `dInner` is that of the first product's result. */
function feedForwardGradient(
  frame: Frame,
  dBranch: NativeTensor,
  x: NativeTensor,
  inputs: FeedForwardGradInputs,
  { weightLayout, precision, approximate }: FeedForwardAttributes,
) {
  const dActivated = inputGradient(frame, dBranch, operand(frame, inputs.weight2, precision), weightLayout);
  const {
    activated,
    dx: dInner,
    dBias: dBias1,
  } = passesFor(frame).geluGradient(
    frame,
    dActivated,
    exclusive(frame, inputs.inner),
    frame.contiguous(inputs.bias1),
    approximate,
  );
  const dWeight2 = weightGradient(frame, activated, dBranch, weightLayout);
  const dWeight1 = weightGradient(frame, x, dInner, weightLayout);
  return { dInner, dWeight1, dBias1, dWeight2 };
}

/** x → [x + dropout(feedForward(normalise(x))), and what the gradient needs] */
const preNormFeedForward = kernel<FeedForwardInputs, FeedForwardAttributes>(
  "EspalierFeedForwardPreNorm",
  (frame, inputs, attrs) => {
    const passes = passesFor(frame);
    const x = rows(frame, inputs.x);
    const norm = normOf(frame, inputs, attrs.epsilon);
    const { y: normal, mean, rstd } = passes.normalise(frame, x, norm, elementType(attrs.precision));
    const { branch, inner } = feedForward(frame, normal, inputs, attrs);
    const y = passes.addResidual(frame, branch, frame.contiguous(inputs.bias2), x, attrs);
    return outputs(frame, y, inner, normal, mean, rstd);
  },
);

/** → [dx, dWeight1, dBias1, dWeight2, dBias2, dGain, dShift] */
const preNormFeedForwardGrad = kernel<
  FeedForwardGradInputs &
    NormInputs & { dy: TensorInfo; x: TensorInfo; normal: TensorInfo; mean: TensorInfo; rstd: TensorInfo },
  FeedForwardAttributes
>("EspalierFeedForwardPreNormGrad", (frame, inputs, attrs) => {
  const passes = passesFor(frame);
  const dy = rows(frame, inputs.dy);
  const { dBranch, dBias } = passes.addResidualGradient(frame, dy, attrs, elementType(attrs.precision));
  const inner = feedForwardGradient(frame, dBranch, frame.tensor(inputs.normal), inputs, attrs);
  const weight1 = operand(frame, inputs.weight1, attrs.precision);
  const dNormal = inputGradient(frame, inner.dInner, weight1, attrs.weightLayout);
  const { dx, dGain, dShift } = passes.normaliseGradient(
    frame,
    dNormal,
    rows(frame, inputs.x),
    statistics(frame, inputs),
    normOf(frame, inputs, attrs.epsilon),
    dy,
  );
  return outputs(frame, dx, inner.dWeight1, inner.dBias1, inner.dWeight2, dBias, dGain, dShift);
});

/** x → [normalise(x + dropout(feedForward(x))), and what the gradient needs] */
const postNormFeedForward = kernel<FeedForwardInputs, FeedForwardAttributes>(
  "EspalierFeedForwardPostNorm",
  (frame, inputs, attrs) => {
    const { branch, inner } = feedForward(frame, operand(frame, inputs.x, attrs.precision), inputs, attrs);
    const { y, half, sum, mean, rstd } = passesFor(frame).addNormalised(
      frame,
      branch,
      frame.contiguous(inputs.bias2),
      rows(frame, inputs.x),
      normOf(frame, inputs, attrs.epsilon),
      attrs,
      attrs.precision === "bf16",
    );
    return [normalisedOutput(frame, y, half), ...outputs(frame, inner, sum, mean, rstd)];
  },
);

/** → [dx, dWeight1, dBias1, dWeight2, dBias2, dGain, dShift] */
const postNormFeedForwardGrad = kernel<NormalisedGradInputs & FeedForwardGradInputs, FeedForwardAttributes>(
  "EspalierFeedForwardPostNormGrad",
  (frame, inputs, attrs) => {
    const { dSum, dBranch, dBias, dGain, dShift } = passesFor(frame).addNormalisedGradient(
      frame,
      rows(frame, inputs.dy),
      frame.tensor(inputs.sum),
      statistics(frame, inputs),
      normOf(frame, inputs, attrs.epsilon),
      attrs,
      elementType(attrs.precision),
    );
    const x = operand(frame, inputs.x, attrs.precision);
    const inner = feedForwardGradient(frame, dBranch, x, inputs, attrs);
    // The last use of dSum, which may be dBranch: it becomes the gradient of x.
    const weight1 = operand(frame, inputs.weight1, attrs.precision);
    addInputGradient(frame, dSum, inner.dInner, weight1, attrs.weightLayout);
    return outputs(frame, dSum, inner.dWeight1, inner.dBias1, inner.dWeight2, dBias, dGain, dShift);
  },
);

interface NormLinearInputs extends NormInputs {
  x: TensorInfo;
  weight: TensorInfo;
  bias: TensorInfo;
}

/** x [rows, hidden] → [normalise(x)·W + b [rows, out], and what the gradient needs] */
const normLinear = kernel<NormLinearInputs, BlockAttributes>(
  "EspalierNormLinear",
  (frame, inputs, { weightLayout, precision, epsilon }) => {
    const norm = normOf(frame, inputs, epsilon);
    const {
      y: normal,
      mean,
      rstd,
    } = passesFor(frame).normalise(frame, rows(frame, inputs.x), norm, elementType(precision));
    const y = multiply(
      frame,
      normal,
      operand(frame, inputs.weight, precision),
      weightLayout,
      operand(frame, inputs.bias, precision),
    );
    return outputs(frame, y, normal, mean, rstd);
  },
);

/** → [dx, dWeight, dBias, dGain, dShift] */
const normLinearGrad = kernel<
  NormInputs & {
    dy: TensorInfo;
    x: TensorInfo;
    weight: TensorInfo;
    normal: TensorInfo;
    mean: TensorInfo;
    rstd: TensorInfo;
  },
  BlockAttributes
>("EspalierNormLinearGrad", (frame, inputs, { weightLayout, precision, epsilon }) => {
  const passes = passesFor(frame);
  const dy = operand(frame, inputs.dy, precision);
  const dNormal = inputGradient(frame, dy, operand(frame, inputs.weight, precision), weightLayout);
  const dWeight = weightGradient(frame, frame.tensor(inputs.normal), dy, weightLayout);
  const { dx, dGain, dShift } = passes.normaliseGradient(
    frame,
    dNormal,
    rows(frame, inputs.x),
    statistics(frame, inputs),
    normOf(frame, inputs, epsilon),
    null,
  );
  return outputs(frame, dx, dWeight, columnSums(frame, dy), dGain, dShift);
});

/** What a layer is made of beside attention. */
export const layerPartKernels: readonly Kernel[] = [
  projection,
  projectionGrad,
  normalisedProjection,
  normalisedProjectionGrad,
  preNormFeedForward,
  preNormFeedForwardGrad,
  postNormFeedForward,
  postNormFeedForwardGrad,
  normLinear,
  normLinearGrad,
];
