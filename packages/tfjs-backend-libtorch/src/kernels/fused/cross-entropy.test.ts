import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { largestDifference, logSumExp, numericGradient, valuesOf } from "../../../test/float64.js";
import { normal, runKernels, useLibtorch } from "../../../test/libtorch.js";

const ROWS = 4;
const CLASSES = 5;
const LABELS = [1, 4, 0, 1];

function meanLoss(logits: number[]): number[] {
  const losses = LABELS.map((label, row) => {
    const scores = logits.slice(row * CLASSES, (row + 1) * CLASSES);
    return logSumExp(scores) - (scores[label] as number);
  });
  return [losses.reduce((a, b) => a + b) / ROWS];
}

describe("EspalierSoftmaxCrossEntropy", () => {
  beforeAll(() => useLibtorch());

  it("is the mean over rows, and its gradient is scaled by dLoss", () => {
    const logits = normal([ROWS, CLASSES], 1);
    const labels = tf.tensor1d(LABELS, "int32");
    const [loss, logProbabilities] = runKernels("EspalierSoftmaxCrossEntropy", { logits, labels });
    expect(loss!.shape).toEqual([]);
    expect(largestDifference(loss!, meanLoss(valuesOf(logits)))).toBeLessThan(1e-6);
    expect(largestDifference(logProbabilities!.exp().sum(1), [1, 1, 1, 1])).toBeLessThan(1e-6);

    const dLoss = tf.scalar(2.5);
    const [dLogits] = runKernels("EspalierSoftmaxCrossEntropyGrad", {
      dLoss,
      logProbabilities: logProbabilities!,
      labels,
    });
    expect(largestDifference(dLogits!, numericGradient(meanLoss, [valuesOf(logits)], 0, [2.5]))).toBeLessThan(
      1e-5,
    );
  });

  it("gives a loss and a gradient of zero for no rows", () => {
    const logits = tf.zeros([0, CLASSES]);
    const labels = tf.tensor1d([], "int32");
    const [loss, logProbabilities] = runKernels("EspalierSoftmaxCrossEntropy", { logits, labels });
    expect(valuesOf(loss!)).toEqual([0]);
    const [dLogits] = runKernels("EspalierSoftmaxCrossEntropyGrad", {
      dLoss: tf.scalar(1),
      logProbabilities: logProbabilities!,
      labels,
    });
    expect(dLogits!.shape).toEqual([0, CLASSES]);
  });

  it("refuses a label outside of the classes", () => {
    const inputs = { logits: normal([1, CLASSES], 1), labels: tf.tensor1d([CLASSES], "int32") };
    expect(() => runKernels("EspalierSoftmaxCrossEntropy", inputs)).toThrow(
      /aten::nll_loss_forward: .*out of bounds/,
    );
  });
});
