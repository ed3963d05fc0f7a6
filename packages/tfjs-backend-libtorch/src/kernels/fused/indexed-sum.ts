import type { NamedTensorInfoMap, TensorInfo } from "@tensorflow/tfjs";
import type { NativeTensor } from "../../addon.js";
import { aten, ownOperator } from "../../aten.js";
import { type Frame, type Kernel, kernel } from "../../kernel.js";

const operators = {
  indexedSum: ownOperator("indexed_sum_for_cpu"),
  reshape: aten("reshape"),
  pick: aten("index_select"),
  multiply: aten("mul.Tensor"),
  add: aten("add.Tensor"),
};

/** More terms than this are added in several goes: the native loop keeps them as the bits of a word. */
const MOST_TERMS = 64;

/** Which entries of an axis, each scaled; without scales by 1. */
interface PickedEntries {
  readonly indices: readonly number[];
  readonly scales?: readonly number[];
}

interface TermAttributes {
  readonly scale: number;
  /** One for each axis; null keeps it as it is. */
  readonly axes: readonly (PickedEntries | null)[];
}

/** An axis of the result: what is picked of the source's. */
class Axis {
  readonly length: number;

  constructor(
    sourceLength: number,
    readonly entries: PickedEntries | null,
  ) {
    this.length = entries?.indices.length ?? sourceLength;
  }

  /** Its indices, at a place in a list of such. */
  writeIndices(list: Int32Array, begin = 0): Int32Array {
    if (this.entries) list.set(this.entries.indices, begin);
    else for (let entry = 0; entry < this.length; entry++) list[begin + entry] = entry;
    return list;
  }

  /** Its scales times another, at a place in a list of such. */
  writeScales(list: Float32Array, scale: number, begin = 0): Float32Array {
    const end = begin + this.length;
    if (!this.entries?.scales) return list.fill(scale, begin, end);
    list.set(this.entries.scales, begin);
    if (scale !== 1) for (let at = begin; at < end; at++) list[at]! *= scale;
    return list;
  }
}

interface Term {
  /** A matrix, row after row in memory; a vector as its only row. */
  readonly source: NativeTensor;
  readonly scale: number;
  readonly rows: Axis;
  readonly columns: Axis;
}

/**
 * Σ of source0, source1, …, all vectors or all matrices: of each the entries of its axes by index, times their scales
 * and its own. On a CPU, entries with a scale of 0 are left out, whatever they hold.
 */
const indexedSum = kernel<NamedTensorInfoMap, { terms: readonly TermAttributes[] }>(
  "EspalierIndexedSum",
  (frame, inputs, { terms }) => {
    const given = terms.map((term, index) => termOf(frame, inputs[`source${index}`], term));
    const [first] = given;
    if (!first) throw new Error(`${frame.kernelName}: a sum needs a term`);
    const [rows, columns] = [first.rows.length, first.columns.length];
    if (given.some((term) => term.rows.length !== rows || term.columns.length !== columns))
      throw new Error(`${frame.kernelName}: the terms have different shapes`);
    const sum = frame.backend.device === "cpu" ? inOnePass(frame, given) : stepByStep(frame, given);
    const isVector = terms[0]?.axes.length === 1;
    return frame.output(isVector ? frame.call(operators.reshape, sum, [columns]) : sum, "float32");
  },
);

function termOf(frame: Frame, info: TensorInfo | undefined, { scale, axes }: TermAttributes): Term {
  if (!info || info.shape.length !== axes.length || axes.length < 1 || axes.length > 2)
    throw new Error(
      `${frame.kernelName}: a source must be a vector or a matrix, and have entries for each axis`,
    );
  const tensor = frame.contiguous(info);
  const isVector = axes.length === 1;
  const [height, width] = isVector ? [1, info.shape[0]!] : [info.shape[0]!, info.shape[1]!];
  return {
    source: isVector ? frame.call(operators.reshape, tensor, [height, width]) : tensor,
    scale,
    rows: new Axis(height, isVector ? null : axes[0]!),
    columns: new Axis(width, axes.at(-1)!),
  };
}

/** By the addon's own loop, which writes every element once. */
function inOnePass(frame: Frame, terms: readonly Term[]): NativeTensor {
  const { rows, columns } = terms[0]!;
  const width = rows.length + columns.length;
  const indices = new Int32Array(terms.length * width);
  const scales = new Float32Array(terms.length * width);
  for (const [index, term] of terms.entries()) {
    const [ofRows, ofColumns] = [index * width, index * width + rows.length];
    term.rows.writeIndices(indices, ofRows);
    term.columns.writeIndices(indices, ofColumns);
    term.rows.writeScales(scales, term.scale, ofRows);
    term.columns.writeScales(scales, 1, ofColumns);
  }
  let sum: NativeTensor | null = null;
  for (let begin = 0; begin < terms.length; begin += MOST_TERMS) {
    const part = terms.slice(begin, begin + MOST_TERMS).map(({ source }) => source);
    const [from, to] = [begin * width, (begin + part.length) * width];
    const made = frame.call(
      operators.indexedSum,
      part,
      frame.constant(indices.subarray(from, to), [to - from], "int32"),
      frame.constant(scales.subarray(from, to), [to - from], "float32"),
      rows.length,
      columns.length,
    );
    sum = sum === null ? made : frame.call(operators.add, sum, made);
  }
  return sum!;
}

/** By PyTorch's operators, which every device has. */
function stepByStep(frame: Frame, terms: readonly Term[]): NativeTensor {
  return terms
    .map(({ source, rows, columns, scale }) =>
      picked(frame, picked(frame, source, 0, rows, scale), 1, columns, 1),
    )
    .reduce((sum, each) => frame.call(operators.add, sum, each));
}

function picked(
  frame: Frame,
  source: NativeTensor,
  dimension: 0 | 1,
  axis: Axis,
  scale: number,
): NativeTensor {
  const { length } = axis;
  const indices = frame.constant(axis.writeIndices(new Int32Array(length)), [length], "int32");
  const shape = dimension === 0 ? [length, 1] : [1, length];
  const scales = frame.constant(axis.writeScales(new Float32Array(length), scale), shape, "float32");
  return frame.call(operators.multiply, frame.call(operators.pick, source, dimension, indices), scales);
}

/** How parameters grow in width. */
export const indexedSumKernels: readonly Kernel[] = [indexedSum];
