import type {
  RaggedGatherAttrs,
  RaggedRangeInputs,
  RaggedTensorToTensorAttrs,
  RaggedTensorToTensorInputs,
  TensorInfo,
} from "@tensorflow/tfjs";
import { shared } from "@tensorflow/tfjs-backend-cpu";
import { type Kernel, kernel } from "../kernel.js";
import { numbers, written } from "./host.js";

interface RaggedGatherGiven {
  readonly paramsNestedSplits: TensorInfo[];
  readonly paramsDenseValues: TensorInfo;
  readonly indices: TensorInfo;
}

const gather = kernel<RaggedGatherGiven, RaggedGatherAttrs>(
  "RaggedGather",
  (frame, { paramsNestedSplits, paramsDenseValues, indices }, { outputRaggedRank }) => {
    const [splits, dense, denseShape] = shared.raggedGatherImpl(
      paramsNestedSplits.map((info) => numbers(frame, info)),
      paramsNestedSplits.map(({ shape }) => shape),
      numbers(frame, paramsDenseValues),
      paramsDenseValues.shape,
      paramsDenseValues.dtype,
      numbers(frame, indices),
      indices.shape,
      outputRaggedRank,
    );
    return [
      ...splits.map((split) => written(frame, split, [split.length], "int32")),
      written(frame, dense, denseShape, paramsDenseValues.dtype),
    ];
  },
);

const range = kernel<RaggedRangeInputs>("RaggedRange", (frame, { starts, limits, deltas }) => {
  const [splits, dense] = shared.raggedRangeImpl(
    numbers(frame, starts),
    starts.shape,
    starts.dtype,
    numbers(frame, limits),
    limits.shape,
    numbers(frame, deltas),
    deltas.shape,
  );
  return [
    written(frame, splits, [splits.length], "int32"),
    written(frame, dense, [dense.length], starts.dtype),
  ];
});

const toTensor = kernel<RaggedTensorToTensorInputs, RaggedTensorToTensorAttrs>(
  "RaggedTensorToTensor",
  (frame, { shape, values, defaultValue, rowPartitionTensors }, { rowPartitionTypes }) => {
    const partitions = rowPartitionTensors as unknown as TensorInfo[];
    const [outShape, dense] = shared.raggedTensorToTensorImpl(
      numbers(frame, shape),
      shape.shape,
      numbers(frame, values),
      values.shape,
      values.dtype,
      numbers(frame, defaultValue),
      defaultValue.shape,
      partitions.map((info) => numbers(frame, info)),
      partitions.map((info) => info.shape),
      rowPartitionTypes,
    );
    return written(frame, dense, outShape, values.dtype);
  },
);

/** Tensors whose rows differ in length. */
export const raggedKernels: readonly Kernel[] = [gather, range, toTensor];
