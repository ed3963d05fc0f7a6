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

/**
 * A term laid over initial values: its own entries where no scale of its axes is 0, the initial value elsewhere.
 *
 * @param initial used up
 */
export function overInitial(initial: tf.Tensor, term: GrowthTerm, source: tf.Tensor): tf.Tensor {
  const result = tf.tidy(() => {
    let isInitial: tf.Tensor = tf.zeros(initial.shape);
    for (const [axis, map] of (term.axes ?? []).entries()) {
      if (map?.kind !== "index" || !map.scales) continue;
      const without = alongAxis(
        map.scales.map((scale) => (scale === 0 ? 1 : 0)),
        axis,
        initial.shape.length,
      );
      isInitial = tf.maximum(isInitial, without);
    }
    return tf.add(tf.mul(initial, isInitial), tf.mul(scaledTerm(term, source), tf.sub(1, isInitial)));
  });
  initial.dispose();
  return result;
}

/** A vector as a tensor of that rank, which broadcasts along all axes but its own. */
function alongAxis(values: readonly number[], axis: number, rank: number): tf.Tensor {
  const shape = Array.from({ length: rank }, (_, other) => (other === axis ? values.length : 1));
  return tf.tensor([...values], shape, "float32");
}

function scaledTerm(term: GrowthTerm, source: tf.Tensor): tf.Tensor {
  let tensor = source;
  for (const [axis, map] of (term.axes ?? []).entries())
    if (map !== null)
      tensor = map.kind === "index" ? selected(tensor, axis, map) : mixed(tensor, axis, map.rows);
  // A product has memory of its own, by 1 too; so has whatever an axis map made.
  return tensor === source || term.scale !== 1 ? tf.mul(tensor, term.scale) : tensor;
}

function selected(tensor: tf.Tensor, axis: number, map: Extract<AxisMap, { kind: "index" }>): tf.Tensor {
  const { indices, scales } = map;
  if (!scales) return picked(tensor, axis, indices);
  // Scales that belong to the source's entries are cheaper there: the source is the smaller one.
  const ofSource = scalesOfSource(indices, scales, tensor.shape[axis]!);
  if (ofSource) return picked(tf.mul(tensor, alongAxis(ofSource, axis, tensor.rank)), axis, indices);
  return tf.mul(picked(tensor, axis, indices), alongAxis(scales, axis, tensor.rank));
}

function scalesOfSource(
  indices: readonly number[],
  scales: readonly number[],
  length: number,
): number[] | null {
  const ofSource = new Array<number>(length).fill(1);
  for (const [entry, index] of indices.entries()) ofSource[index] = scales[entry]!;
  return indices.every((index, entry) => ofSource[index] === scales[entry]) ? ofSource : null;
}

// Below this many entries in a row a slice costs more than picking them one by one.
const shortestSlice = 32;

/**
 * Entries of an axis by index. Entries of the first axis are whole blocks of memory; along another axis, picking walks
 * through memory with a stride, so stretches of consecutive indices (a growth in width keeps what is there) are sliced.
 */
function picked(tensor: tf.Tensor, axis: number, indices: readonly number[]): tf.Tensor {
  const gathered = (part: readonly number[]) => tf.gather(tensor, tf.tensor1d([...part], "int32"), axis);
  if (axis === 0) return gathered(indices);
  const parts: tf.Tensor[] = [];
  let loose: number[] = [];
  const flush = (): void => {
    if (loose.length > 0) parts.push(gathered(loose));
    loose = [];
  };
  for (let first = 0; first < indices.length; ) {
    let end = first + 1;
    while (indices[end] === indices[end - 1]! + 1) end++;
    if (end - first < shortestSlice) loose.push(...indices.slice(first, end));
    else {
      flush();
      const begin = tensor.shape.map((_, other) => (other === axis ? indices[first]! : 0));
      const size = tensor.shape.map((length, other) => (other === axis ? end - first : length));
      parts.push(tf.slice(tensor, begin, size));
    }
    first = end;
  }
  flush();
  // A slice alone may be a view.
  return parts.length > 1 ? tf.concat(parts, axis) : independentCopy(parts[0]!);
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
