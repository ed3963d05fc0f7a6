import type { AxisMap, GrowthTerm } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";

/**
 * A copy with memory of its own. `tensor.clone()` shares its memory with the original, and an optimizer that updates in
 * place would then train both; a product with 1 keeps every bit.
 */
export function independentCopy(tensor: tf.Tensor): tf.Tensor {
  return tf.mul(tensor, 1);
}

/**
 * The sum of terms, computed on the device.
 *
 * @param terms at least one; checked before
 * @returns a tensor with memory of its own, whatever the terms are
 */
export function sumOfTerms(terms: readonly GrowthTerm[], tensorOf: (name: string) => tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const parts = terms.map((term) => scaledTerm(term, tensorOf(term.from)));
    const [first, ...rest] = parts;
    return rest.reduce((sum, part) => tf.add(sum, part), first!);
  });
}

function scaledTerm(term: GrowthTerm, source: tf.Tensor): tf.Tensor {
  let tensor = source;
  for (const [axis, map] of (term.axes ?? []).entries())
    if (map !== null)
      tensor = map.kind === "index" ? selected(tensor, axis, map) : mixed(tensor, axis, map.rows);
  // Always a product, by 1 too: its result shares no memory with the source.
  return tf.mul(tensor, term.scale);
}

function selected(tensor: tf.Tensor, axis: number, map: Extract<AxisMap, { kind: "index" }>): tf.Tensor {
  const chosen = tf.gather(tensor, tf.tensor1d([...map.indices], "int32"), axis);
  if (!map.scales) return chosen;
  const alongAxis = chosen.shape.map((length, other) => (other === axis ? length : 1));
  return tf.mul(chosen, tf.tensor([...map.scales], alongAxis, "float32"));
}

/** Entry t along the axis is Σ_s rows[t][s] · source entry s. */
function mixed(tensor: tf.Tensor, axis: number, rows: readonly (readonly number[])[]): tf.Tensor {
  const others = tensor.shape.map((_, other) => other).filter((other) => other !== axis);
  const order = [axis, ...others];
  const front = tf.transpose(tensor, order);
  const matrix = tf.tensor2d(
    rows.map((row) => [...row]),
    [rows.length, tensor.shape[axis]!],
    "float32",
  );
  const product = tf.matMul(matrix, tf.reshape(front, [tensor.shape[axis]!, -1]));
  const result = tf.reshape(product, [rows.length, ...front.shape.slice(1)]);
  return tf.transpose(
    result,
    order.map((_, position) => order.indexOf(position)),
  );
}
