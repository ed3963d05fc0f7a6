import {
  type SparseFillEmptyRowsInputs,
  type SparseReshapeInputs,
  type SparseSegmentMeanInputs,
  util,
} from "@tensorflow/tfjs";
import { shared } from "@tensorflow/tfjs-backend-cpu";
import { type Kernel, kernel } from "../kernel.js";
import { numbers, written } from "./host.js";

const fillEmptyRows = kernel<SparseFillEmptyRowsInputs>(
  "SparseFillEmptyRows",
  (frame, { indices, values, denseShape, defaultValue }) => {
    util.assert(
      denseShape.shape.length === 1,
      () => `Dense shape must be a vector, saw: ${denseShape.shape}`,
    );
    util.assert(indices.shape.length === 2, () => `Indices must be a matrix, saw: ${indices.shape}`);
    util.assert(values.shape.length === 1, () => `Values must be a vector, saw: ${values.shape}`);
    util.assert(
      defaultValue.shape.length === 0,
      () => `Default value must be a scalar, saw: ${defaultValue.shape}`,
    );
    const [outIndices, outShape, outValues, isEmpty, reverseMap] = shared.sparseFillEmptyRowsImpl(
      numbers(frame, indices),
      indices.shape,
      indices.dtype,
      numbers(frame, values),
      values.dtype,
      numbers(frame, denseShape),
      numbers(frame, defaultValue)[0] ?? 0,
    );
    return [
      written(frame, outIndices, outShape, indices.dtype),
      written(frame, outValues, [outShape[0] ?? 0], values.dtype),
      written(frame, Uint8Array.from(isEmpty, Number), [isEmpty.length], "bool"),
      written(frame, reverseMap, [reverseMap.length], indices.dtype),
    ];
  },
);

const reshape = kernel<SparseReshapeInputs>(
  "SparseReshape",
  (frame, { inputIndices, inputShape, newShape }) => {
    util.assert(
      inputIndices.shape.length === 2,
      () => `Input indices should be a matrix but received shape ${inputIndices.shape}`,
    );
    util.assert(
      inputShape.shape.length === 1,
      () => `Input shape should be a vector but received shape ${inputShape.shape}`,
    );
    util.assert(
      newShape.shape.length === 1,
      () => `Target shape should be a vector but received shape ${newShape.shape}`,
    );
    const [indices, shape, outShape] = shared.sparseReshapeImpl(
      numbers(frame, inputIndices),
      inputIndices.shape,
      inputIndices.dtype,
      Array.from(numbers(frame, inputShape)),
      Array.from(numbers(frame, newShape)),
    );
    return [
      written(frame, indices, shape, inputIndices.dtype),
      written(frame, outShape, [outShape.length], newShape.dtype),
    ];
  },
);

function segments(name: string, mean: boolean): Kernel {
  return kernel<SparseSegmentMeanInputs>(name, (frame, { data, indices, segmentIds }) => {
    util.assert(data.shape.length > 0, () => "Data should be at least 1 dimensional but received scalar");
    util.assert(
      indices.shape.length === 1,
      () => `Indices should be a vector but received shape ${indices.shape}`,
    );
    util.assert(
      segmentIds.shape.length === 1,
      () => `Segment ids should be a vector but received shape ${segmentIds.shape}`,
    );
    util.assert(
      indices.shape[0] === segmentIds.shape[0],
      () => "segmentIds and indices should have same size.",
    );
    const [reduced, shape] = shared.sparseSegmentReductionImpl(
      numbers(frame, data),
      data.shape,
      data.dtype,
      numbers(frame, indices),
      numbers(frame, segmentIds),
      mean,
    );
    return written(frame, reduced, shape, data.dtype);
  });
}

/** Tensors given by the places of their values. */
export const sparseKernels: readonly Kernel[] = [
  fillEmptyRows,
  reshape,
  segments("SparseSegmentMean", true),
  segments("SparseSegmentSum", false),
];
