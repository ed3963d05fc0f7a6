import * as tf from "@tensorflow/tfjs";
import { differentiable } from "./differentiable.js";
import { fusedKernel } from "./kernel.js";

/**
 * Embedding lookup.
 *
 * @param table `[vocabulary, hidden]`
 * @param indices int32 `[rows]`
 * @param paddingIndex a row whose use gives no gradient (Hugging Face's `padding_idx`), or null
 * @returns `[rows, hidden]`
 */
export function embedding(
  table: tf.Tensor2D,
  indices: tf.Tensor1D,
  paddingIndex: number | null = null,
): tf.Tensor2D {
  const vocabulary = table.shape[0];
  return differentiable([table], () => ({
    value: tf.gather(table, indices),
    saved: [indices],
    backward(dy, saved) {
      const [indices] = saved as [tf.Tensor1D];
      const counted = paddingIndex === null ? dy : dy.mul<tf.Tensor2D>(isNot(indices, paddingIndex));
      return [sumRows(counted, indices, vocabulary)];
    },
  }));
}

/** The rows of `x` at the given positions: `[rows, hidden]`, int32 `[count]` → `[count, hidden]`. */
export function gatherRows(x: tf.Tensor2D, positions: tf.Tensor1D): tf.Tensor2D {
  return embedding(x, positions);
}

/**
 * Adds learned positions 0..seq-1 to every sequence.
 *
 * @param x `[batch · seq, hidden]`
 * @param table `[positions, hidden]`, at least seq rows
 */
export function addPositions(x: tf.Tensor2D, table: tf.Tensor2D, sequenceLength: number): tf.Tensor2D {
  const [rows, hidden] = x.shape;
  const batched: [number, number, number] = [rows / sequenceLength, sequenceLength, hidden];
  const unused = table.shape[0] - sequenceLength;
  return differentiable([x, table], () => ({
    value: x
      .reshape<tf.Tensor3D>(batched)
      .add(table.slice([0, 0], [sequenceLength, hidden]))
      .reshape(x.shape),
    saved: [],
    backward: (dy) => [
      dy.clone(),
      dy
        .reshape(batched)
        .sum(0)
        .pad([
          [0, unused],
          [0, 0],
        ]),
    ],
  }));
}

/** Adds one row of a table to every row: BERT's token type, which is always the first here. */
export function addRow(x: tf.Tensor2D, table: tf.Tensor2D, row: number): tf.Tensor2D {
  const [rows, hidden] = table.shape;
  return differentiable([x, table], () => ({
    value: x.add(table.slice([row, 0], [1, hidden])),
    saved: [],
    backward: (dy) => [
      dy.clone(),
      dy.sum(0, true).pad([
        [row, rows - row - 1],
        [0, 0],
      ]),
    ],
  }));
}

/** `[rows, 1]`: 0 where the index is the given one, else 1. */
function isNot(indices: tf.Tensor1D, index: number): tf.Tensor2D {
  return indices.notEqual(tf.scalar(index, "int32")).cast<tf.Tensor1D>("float32").expandDims(1);
}

/** Sums the rows of dy by index: `[rows, hidden]` → `[vocabulary, hidden]`. */
function sumRows(dy: tf.Tensor2D, indices: tf.Tensor1D, vocabulary: number): tf.Tensor {
  const kernel = fusedKernel("EspalierEmbeddingGrad");
  if (kernel) return kernel({ dy, indices }, { vocabulary })[0]!;
  return tf.unsortedSegmentSum(dy, indices, vocabulary);
}
