import type { TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { aten } from "../../aten.js";
import { type Kernel, kernel } from "../../kernel.js";
import { float32 } from "./products.js";

const operators = {
  logSoftmax: aten("_log_softmax"),
  negativeLikelihood: aten("nll_loss_forward"),
  divide: aten("div.Scalar"),
  exp: aten("exp"),
  multiplyInPlace: aten("mul_.Tensor"),
  negate: aten("neg"),
  reshape: aten("reshape"),
  expand: aten("expand"),
  scatterAddInPlace: aten("scatter_add_"),
  full: aten("full"),
  zerosLike: aten("zeros_like"),
};

/** ATen's number for "the mean over the counted rows". */
const MEAN = 1;
/** No label is left out: the caller gives the counted rows only. */
const NO_IGNORED_LABEL = -100;

/** logits [rows, classes], labels [rows] int32 → [mean loss, log probabilities [rows, classes]] */
const crossEntropy = kernel<{ logits: TensorInfo; labels: TensorInfo }>(
  "EspalierSoftmaxCrossEntropy",
  (frame, { logits, labels }) => {
    // In float32 even if a product in bf16 made the logits.
    const logProbabilities = frame.call(operators.logSoftmax, float32(frame, frame.tensor(logits)), 1, false);
    // ATen's mean over no rows is 0 / 0.
    if (logits.shape[0] === 0) {
      const none = frame.call(operators.full, [], 0, "float32", undefined, frame.backend.device);
      return [frame.output(none, "float32"), frame.output(logProbabilities, "float32")];
    }
    const target = frame.cast(frame.tensor(labels), "int64");
    const [loss] = frame.callList(
      operators.negativeLikelihood,
      logProbabilities,
      target,
      undefined,
      MEAN,
      NO_IGNORED_LABEL,
    );
    return [frame.output(loss as NativeTensor, "float32"), frame.output(logProbabilities, "float32")];
  },
);

/** dLoss [] → dLogits [rows, classes] */
const crossEntropyGrad = kernel<{ dLoss: TensorInfo; logProbabilities: TensorInfo; labels: TensorInfo }>(
  "EspalierSoftmaxCrossEntropyGrad",
  (frame, { dLoss, logProbabilities, labels }) => {
    const given = frame.tensor(logProbabilities);
    const [rows = 0] = logProbabilities.shape;
    if (rows === 0) return frame.output(frame.call(operators.zerosLike, given), "float32");
    // (softmax − one-hot) · dLoss / rows in three passes, where ATen's two backward operators take six.
    const perRow = frame.call(operators.divide, frame.tensor(dLoss), rows);
    const gradient = frame.call(operators.exp, given);
    frame.callInPlace(operators.multiplyInPlace, gradient, perRow);
    const target = frame.call(operators.reshape, frame.cast(frame.tensor(labels), "int64"), [rows, 1]);
    const atLabels = frame.call(operators.expand, frame.call(operators.negate, perRow), [rows, 1]);
    frame.callInPlace(operators.scatterAddInPlace, gradient, 1, target, atLabels);
    return frame.output(gradient, "float32");
  },
);

/** The mean of the softmax cross entropy over rows, and its gradient. */
export const crossEntropyKernels: readonly Kernel[] = [crossEntropy, crossEntropyGrad];
