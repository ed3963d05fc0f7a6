import {
  backend_util,
  type GatherNdInputs,
  type GatherV2Attrs,
  type GatherV2Inputs,
  type ScatterNdAttrs,
  type ScatterNdInputs,
  type SearchSortedAttrs,
  type SearchSortedInputs,
  type SelectInputs,
  type SparseToDenseAttrs,
  type SparseToDenseInputs,
  type TensorInfo,
  type TensorScatterUpdateAttrs,
  type TensorScatterUpdateInputs,
  type TopKAttrs,
  type TopKInputs,
  type UnsortedSegmentSumAttrs,
  type UnsortedSegmentSumInputs,
  util,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { nativeType } from "../dtypes.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";

const operators = {
  indexSelect: aten("index_select"),
  gather: aten("gather"),
  expand: aten("expand"),
  reshape: aten("reshape"),
  mul: aten("mul.Tensor"),
  sum: aten("sum.dim_IntList"),
  full: aten("full"),
  clone: aten("clone"),
  indexAdd: aten("index_add"),
  indexCopy: aten("index_copy"),
  where: aten("where.self"),
  whereScalarOther: aten("where.ScalarOther"),
  sort: aten("sort.stable"),
  slice: aten("slice.Tensor"),
  searchsorted: aten("searchsorted.Tensor"),
  greaterEqual: aten("ge.Scalar"),
  less: aten("lt.Scalar"),
  and: aten("logical_and"),
};

/**
 * Picks entries of one axis. An index outside of it fails in ATen, without saying which: found here, afterwards, on the
 * CPU. A GPU notices it only when something is read back.
 */
function pickEntries(frame: Frame, x: TensorInfo, axis: number, flat: NativeTensor, indices: TensorInfo) {
  try {
    return frame.call(operators.indexSelect, frame.tensor(x), axis, flat);
  } catch (error) {
    if (frame.backend.device !== "cpu") throw error;
    const last = (x.shape[axis] ?? 0) - 1;
    const wrong = (frame.backend.readSync(indices.dataId) as Int32Array).find((at) => at < 0 || at > last);
    if (wrong === undefined) throw error;
    throw new Error(`GatherV2: the index value ${wrong} is not in [0, ${last}]`);
  }
}

const gatherV2 = kernel<GatherV2Inputs, GatherV2Attrs>(
  "GatherV2",
  (frame, { x, indices }, { axis, batchDims = 0 }) => {
    const [along = 0] = util.parseAxisParam(axis, x.shape);
    const shapes = backend_util.segment_util.collectGatherOpShapeInfo(
      x as never,
      indices as never,
      along,
      batchDims,
    );
    const numbers = frame.tensorAs(indices, "int32");
    const count = util.sizeFromShape(indices.shape);
    if (shapes.batchSize === 1) {
      const flat = frame.call(operators.reshape, numbers, [count]);
      const picked = pickEntries(frame, x, along, flat, indices);
      return frame.output(frame.call(operators.reshape, picked, shapes.outputShape), x.dtype);
    }
    const { batchSize, outerSize, dimSize, sliceSize } = shapes;
    const each = count / batchSize;
    const source = frame.call(operators.reshape, frame.tensor(x), [batchSize, outerSize, dimSize, sliceSize]);
    const column = frame.call(operators.reshape, numbers, [batchSize, 1, each, 1]);
    const index = frame.call(operators.expand, column, [batchSize, outerSize, each, sliceSize]);
    const picked = frame.call(operators.gather, source, 2, frame.cast(index, "int64"));
    return frame.output(frame.call(operators.reshape, picked, shapes.outputShape), x.dtype);
  },
  { movesData: true },
);

/** Rows of indices [rows, rank] as positions in the flattened leading axes. */
function positions(
  frame: Frame,
  indices: TensorInfo,
  rows: number,
  strides: readonly number[],
): NativeTensor {
  const table = frame.call(operators.reshape, frame.tensorAs(indices, "int32"), [rows, strides.length]);
  const weighted = frame.call(operators.mul, table, frame.constant(strides, [strides.length], "int32"));
  return frame.call(operators.sum, weighted, [1], false, "int32");
}

const gatherNd = kernel<GatherNdInputs>(
  "GatherNd",
  (frame, { params, indices }) => {
    const [resultShape, slices, sliceSize, strides] = backend_util.prepareAndValidate(
      params as never,
      indices as never,
    );
    const rows = util.sizeFromShape(params.shape) / (sliceSize || 1);
    const flat = frame.call(operators.reshape, frame.tensor(params), [rows, sliceSize]);
    const picked = frame.call(operators.indexSelect, flat, 0, positions(frame, indices, slices, strides));
    return frame.output(frame.call(operators.reshape, picked, resultShape), params.dtype);
  },
  { movesData: true },
);

interface Scatter {
  /** The target as [rows, elements of a row]. */
  readonly flat: readonly [number, number];
  readonly rows: NativeTensor;
  readonly updates: NativeTensor;
}

function scatter(frame: Frame, indices: TensorInfo, updates: TensorInfo, shape: readonly number[]): Scatter {
  const plan = backend_util.calculateShapes(updates as never, indices as never, [...shape]);
  const { sliceRank, numUpdates, sliceSize, strides, outputSize } = plan;
  const steps = strides.slice(0, sliceRank);
  const rows = positions(frame, indices, numUpdates, steps);
  const values = frame.tensor(updates);
  const spread =
    updates.shape.length === 0
      ? frame.call(operators.expand, values, [numUpdates, sliceSize])
      : frame.call(operators.reshape, values, [numUpdates, sliceSize]);
  return { flat: [outputSize / sliceSize, sliceSize], rows, updates: spread };
}

function emptyTarget(frame: Frame, shape: readonly number[], info: TensorInfo): NativeTensor {
  return frame.call(operators.full, shape, 0, nativeType(info.dtype), undefined, frame.backend.device);
}

const scatterNd = kernel<ScatterNdInputs, ScatterNdAttrs>(
  "ScatterNd",
  (frame, { indices, updates }, { shape }) => {
    const { flat, rows, updates: values } = scatter(frame, indices, updates, shape);
    const target = emptyTarget(frame, flat, updates);
    const added = frame.call(operators.indexAdd, target, 0, rows, values);
    return frame.output(frame.call(operators.reshape, added, shape), updates.dtype);
  },
);

const tensorScatterUpdate = kernel<TensorScatterUpdateInputs, TensorScatterUpdateAttrs>(
  "TensorScatterUpdate",
  (frame, { tensor, indices, updates }) => {
    const { flat, rows, updates: values } = scatter(frame, indices, updates, tensor.shape);
    const target = frame.call(operators.reshape, frame.tensor(tensor), flat);
    const written = frame.call(operators.indexCopy, target, 0, frame.cast(rows, "int64"), values);
    return frame.output(frame.call(operators.reshape, written, tensor.shape), tensor.dtype);
  },
  { movesData: true },
);

const sparseToDense = kernel<SparseToDenseInputs, SparseToDenseAttrs>(
  "SparseToDense",
  (frame, { sparseIndices, sparseValues, defaultValue }, { outputShape }) => {
    const { flat, rows, updates } = scatter(frame, sparseIndices, sparseValues, outputShape);
    const target = frame.call(operators.expand, frame.tensor(defaultValue), flat);
    const written = frame.call(operators.indexCopy, target, 0, frame.cast(rows, "int64"), updates);
    return frame.output(frame.call(operators.reshape, written, outputShape), sparseValues.dtype);
  },
  { movesData: true },
);

const select = kernel<SelectInputs>(
  "Select",
  (frame, { condition, t, e }) => {
    const dtype = backend_util.upcastType(t.dtype, e.dtype);
    let chosen = frame.tensorAs(condition, "bool");
    // A condition of rank 1 picks whole rows.
    if (condition.shape.length === 1 && t.shape.length > 1) {
      chosen = frame.call(operators.reshape, chosen, [
        condition.shape[0] ?? 0,
        ...t.shape.slice(1).map(() => 1),
      ]);
    }
    const result = frame.call(operators.where, chosen, frame.tensorAs(t, dtype), frame.tensorAs(e, dtype));
    return frame.output(result, dtype);
  },
  { movesData: true },
);

const topK = kernel<TopKInputs, TopKAttrs>("TopK", (frame, { x }, { k }) => {
  const value = x.dtype === "bool" ? frame.tensorAs(x, "int32") : frame.tensor(x);
  // ATen's own `topk` leaves the order of equal values open; TensorFlow.js wants the lower index first.
  const sorted = frame.callList(operators.sort, value, true, -1, true);
  const [values, indices] = sorted.map((tensor) => frame.call(operators.slice, tensor, -1, 0, k, 1));
  return [
    frame.output(frame.call(operators.clone, values), x.dtype),
    frame.output(indices as NativeTensor, "int32"),
  ];
});

const unsortedSegmentSum = kernel<UnsortedSegmentSumInputs, UnsortedSegmentSumAttrs>(
  "UnsortedSegmentSum",
  (frame, { x, segmentIds }, { numSegments }) => {
    const rank = segmentIds.shape.length;
    const rows = util.sizeFromShape(segmentIds.shape);
    const rest = x.shape.slice(rank);
    const flat = frame.call(operators.reshape, frame.tensor(x), [rows, util.sizeFromShape(rest)]);
    const ids = frame.call(operators.reshape, frame.tensorAs(segmentIds, "int32"), [rows]);
    const valid = frame.call(
      operators.and,
      frame.call(operators.greaterEqual, ids, 0),
      frame.call(operators.less, ids, numSegments),
    );
    // Rows of no segment are added to one more, which is cut off.
    const bucket = frame.call(operators.whereScalarOther, valid, ids, numSegments);
    const target = emptyTarget(frame, [numSegments + 1, util.sizeFromShape(rest)], x);
    const added = frame.call(operators.indexAdd, target, 0, frame.cast(bucket, "int32"), flat);
    const kept = frame.call(operators.slice, added, 0, 0, numSegments, 1);
    return frame.output(frame.call(operators.reshape, kept, [numSegments, ...rest]), x.dtype);
  },
);

const searchSorted = kernel<SearchSortedInputs, SearchSortedAttrs>(
  "SearchSorted",
  (frame, { sortedSequence, values }, { side }) =>
    frame.output(
      frame.call(
        operators.searchsorted,
        frame.tensor(sortedSequence),
        frame.tensor(values),
        true,
        side === "right",
      ),
      "int32",
    ),
);

/** Reading and writing by index, choosing by condition, ordering. */
export const indexingKernels: readonly Kernel[] = [
  gatherV2,
  gatherNd,
  scatterNd,
  tensorScatterUpdate,
  sparseToDense,
  select,
  topK,
  unsortedSegmentSum,
  searchSorted,
];
