import {
  kernel_impls,
  type NonMaxSuppressionV3Attrs,
  type NonMaxSuppressionV3Inputs,
  type NonMaxSuppressionV4Attrs,
  type NonMaxSuppressionV5Attrs,
} from "@tensorflow/tfjs";
import { type Kernel, kernel } from "../kernel.js";
import { numbers, written } from "./host.js";

const v3 = kernel<NonMaxSuppressionV3Inputs, NonMaxSuppressionV3Attrs>(
  "NonMaxSuppressionV3",
  (frame, { boxes, scores }, { maxOutputSize, iouThreshold, scoreThreshold }) => {
    const { selectedIndices } = kernel_impls.nonMaxSuppressionV3Impl(
      numbers(frame, boxes),
      numbers(frame, scores),
      maxOutputSize,
      iouThreshold,
      scoreThreshold,
    );
    return written(frame, selectedIndices, [selectedIndices.length], "int32");
  },
);

const v4 = kernel<NonMaxSuppressionV3Inputs, NonMaxSuppressionV4Attrs>(
  "NonMaxSuppressionV4",
  (frame, { boxes, scores }, { maxOutputSize, iouThreshold, scoreThreshold, padToMaxOutputSize }) => {
    const { selectedIndices, validOutputs } = kernel_impls.nonMaxSuppressionV4Impl(
      numbers(frame, boxes),
      numbers(frame, scores),
      maxOutputSize,
      iouThreshold,
      scoreThreshold,
      padToMaxOutputSize,
    );
    return [
      written(frame, selectedIndices, [selectedIndices.length], "int32"),
      written(frame, [validOutputs ?? 0], [], "int32"),
    ];
  },
);

const v5 = kernel<NonMaxSuppressionV3Inputs, NonMaxSuppressionV5Attrs>(
  "NonMaxSuppressionV5",
  (frame, { boxes, scores }, { maxOutputSize, iouThreshold, scoreThreshold, softNmsSigma }) => {
    const { selectedIndices, selectedScores = [] } = kernel_impls.nonMaxSuppressionV5Impl(
      numbers(frame, boxes),
      numbers(frame, scores),
      maxOutputSize,
      iouThreshold,
      scoreThreshold,
      softNmsSigma,
    );
    return [
      written(frame, selectedIndices, [selectedIndices.length], "int32"),
      written(frame, selectedScores, [selectedScores.length], "float32"),
    ];
  },
);

/** The best of boxes that overlap: a greedy choice, one after the other, on the host. */
export const boxKernels: readonly Kernel[] = [v3, v4, v5];
