import { EspalierError } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";

/**
 * Runs a product and its gradient on the current backend and compares every element with the exact result:
 * a library that loads but computes nonsense (or nothing) is found at once, not after an hour of training.
 *
 * @throws EspalierError where a value differs
 */
export async function verifyBackend(name: string): Promise<void> {
  const results = tf.tidy(() => {
    const left = tf.tensor2d([1, 2, 3, 4, 5, 6], [2, 3]);
    const right = tf.tensor2d([1, 0, 2, 1, 0, 3], [3, 2]);
    const { value, grads } = tf.valueAndGrads((a: tf.Tensor, b: tf.Tensor) => tf.matMul(a, b).square().sum())(
      [left, right],
    );
    return [value, ...grads];
  });
  try {
    // left·right = [[5, 11], [14, 23]]; the gradients are 2(left·right)·rightᵀ and leftᵀ·2(left·right)
    const expected = [[871], [10, 42, 66, 28, 102, 138], [122, 206, 160, 274, 198, 342]];
    for (const [index, tensor] of results.entries()) {
      const values = await tensor.data();
      if (expected[index]!.every((value, position) => values[position] === value)) continue;
      throw new EspalierError(
        "ESPALIER_BACKENDS_WRONG_RESULT",
        `backend ${name} computes wrong results: expected ${expected[index]!.join(", ")}, got ${[...values].join(", ")}`,
        { hint: "espalier doctor says which library it is; another backend is chosen with --backend" },
      );
    }
  } finally {
    tf.dispose(results);
  }
}
