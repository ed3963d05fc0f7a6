import * as tf from "@tensorflow/tfjs";
import { beforeAll, expect, test } from "vitest";
import { loadBackend } from "../load-backend.js";

beforeAll(async () => {
  await loadBackend({ backend: "wasm" });
});

test("rows are added by segment; what belongs to none is left out", () => {
  const before = tf.memory().numTensors;
  const sums = tf.tidy(() =>
    tf
      .unsortedSegmentSum(
        tf.tensor2d([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [5, 2]),
        tf.tensor1d([3, 0, 3, -1, 4], "int32"),
        4,
      )
      .arraySync(),
  );
  expect(sums).toEqual([
    [3, 4],
    [0, 0],
    [0, 0],
    [6, 8],
  ]);
  expect(tf.memory().numTensors).toBe(before);
});

test("whole numbers, rows of any rank, and no rows at all", () => {
  tf.tidy(() => {
    const cubes = tf.tensor3d([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2], "int32");
    const sums = tf.unsortedSegmentSum(cubes, tf.tensor1d([1, 1], "int32"), 2);
    expect(sums.dtype).toBe("int32");
    expect(sums.arraySync()).toEqual([
      [
        [0, 0],
        [0, 0],
      ],
      [
        [6, 8],
        [10, 12],
      ],
    ]);
    const none = tf.unsortedSegmentSum(tf.zeros([0, 3]), tf.tensor1d([], "int32"), 2);
    expect(none.arraySync()).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
  });
});

test("the gradient of a lookup is the sum over its uses", () => {
  const gradient = tf.tidy(() => {
    const [table, dy] = [tf.zeros([5, 2]), tf.tensor2d([1, 2, 3, 4, 5, 6, 7, 8], [4, 2])];
    return tf
      .grad((given) => tf.gather(given, tf.tensor1d([4, 1, 4, 0], "int32")))(table, dy)
      .arraySync();
  });
  expect(gradient).toEqual([
    [7, 8],
    [3, 4],
    [0, 0],
    [0, 0],
    [6, 8],
  ]);
});
