import type { AxisMap, GrowthTerm } from "@espalier/core";
import { indexedSum } from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";
import { type TermsInTurn, termsInTurn } from "./terms-in-turn.js";

type IndexMap = Extract<AxisMap, { kind: "index" }>;

/**
 * A copy with memory of its own. `tensor.clone()` shares its memory with the original, and an optimizer that updates in
 * place would then train both; a product with 1 keeps every bit.
 */
export function independentCopy(tensor: tf.Tensor): tf.Tensor {
  return tf.mul(tensor, 1);
}

/**
 * The sum of terms, computed on the device: by the engine's own kernel where it has one. Elsewhere, terms that take turns
 * along an axis (each entry has a scale other than 0 in one of them alone) are laid beside each other, so that every entry
 * is written once.
 *
 * @param terms at least one; checked before
 * @returns a tensor with memory of its own, whatever the terms are
 */
export function sumOfTerms(terms: readonly GrowthTerm[], tensorOf: (name: string) => tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const inOnePass = indexedSum(terms, tensorOf);
    if (inOnePass) return inOnePass;
    const turns = termsInTurn(terms);
    if (turns) return joined(turns, tensorOf);
    const [first, ...rest] = terms;
    let sum = ownTerm(first!, tensorOf(first!.from));
    for (const term of rest) {
      const before = sum;
      sum = tf.tidy(() => tf.add(before, scaledTerm(term, tensorOf(term.from)).tensor));
      before.dispose();
    }
    return sum;
  });
}

function joined({ axis, terms }: TermsInTurn, tensorOf: (name: string) => tf.Tensor): tf.Tensor {
  const [only, ...more] = terms;
  // What TensorFlow.js joins from one tensor alone shares its memory.
  if (more.length === 0) return ownTerm(only!, tensorOf(only!.from));
  const parts = terms.map((term) => scaledTerm(term, tensorOf(term.from)).tensor);
  return tf.concat(parts, axis);
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
    return tf.add(tf.mul(initial, isInitial), tf.mul(scaledTerm(term, source).tensor, tf.sub(1, isInitial)));
  });
  initial.dispose();
  return result;
}

/** A vector as a tensor of that rank, which broadcasts along all axes but its own. */
function alongAxis(values: readonly number[], axis: number, rank: number): tf.Tensor {
  const shape = Array.from({ length: rank }, (_, other) => (other === axis ? values.length : 1));
  return tf.tensor(Float32Array.from(values), shape, "float32");
}

interface Made {
  readonly tensor: tf.Tensor;
  /** Whether the memory is surely its own; the source itself and a slice of it have not. */
  readonly own: boolean;
}

function ownTerm(term: GrowthTerm, source: tf.Tensor): tf.Tensor {
  const { tensor, own } = scaledTerm(term, source);
  return own ? tensor : independentCopy(tensor);
}

/** A scaled term. The axes that grow least come first, so that what lies between them is small. */
function scaledTerm(term: GrowthTerm, source: tf.Tensor): Made {
  const steps = (term.axes ?? [])
    .map((map, axis) => ({ map, axis, growth: map === null ? 1 : lengthOf(map) / source.shape[axis]! }))
    // Entries of the first axis are whole blocks of memory: cheapest, so of axes that grow alike it is the last.
    .sort((one, other) => one.growth - other.growth || other.axis - one.axis);
  let made: Made = { tensor: source, own: false };
  for (const { map, axis } of steps) {
    if (map === null) continue;
    const before = made;
    made =
      map.kind === "index"
        ? selected(before, axis, map)
        : { tensor: tf.tidy(() => mixed(before.tensor, axis, map.rows)), own: true };
    if (before.tensor !== source && before.tensor !== made.tensor) before.tensor.dispose();
  }
  if (term.scale === 1) return made;
  return { tensor: tf.mul(made.tensor, term.scale), own: true };
}

function lengthOf(map: AxisMap): number {
  return map.kind === "index" ? map.indices.length : map.rows.length;
}

function selected(made: Made, axis: number, map: IndexMap): Made {
  const { indices, scales } = map;
  const { tensor } = made;
  if (!scales || scales.every((scale) => scale === 1)) return picked(made, axis, indices);
  const scaled = (of: tf.Tensor, by: readonly number[]): Made => ({
    tensor: tf.tidy(() => tf.mul(of, alongAxis(by, axis, tensor.rank))),
    own: true,
  });
  // Scales that belong to the source's entries are cheaper there, where the source is the smaller one.
  const ofSource =
    tensor.shape[axis]! <= indices.length ? scalesOfSource(indices, scales, tensor.shape[axis]!) : null;
  const first = ofSource ? scaled(tensor, ofSource) : picked(made, axis, indices);
  const result = ofSource ? picked(first, axis, indices) : scaled(first.tensor, scales);
  if (first.tensor !== tensor && first.tensor !== result.tensor) first.tensor.dispose();
  return result;
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
function picked(made: Made, axis: number, indices: readonly number[]): Made {
  const { tensor } = made;
  const stretches = axis === 0 && !isConsecutive(indices) ? [indices] : stretchesOf(indices);
  const parts = () =>
    stretches.map((stretch) => {
      if (!isConsecutive(stretch))
        return tf.gather(tensor, tf.tensor1d(Int32Array.from(stretch), "int32"), axis);
      const begin = tensor.shape.map((_, other) => (other === axis ? stretch[0]! : 0));
      const size = tensor.shape.map((length, other) => (other === axis ? stretch.length : length));
      return tf.slice(tensor, begin, size);
    });
  if (stretches.length > 1) return { tensor: tf.tidy(() => tf.concat(parts(), axis)), own: true };
  const [only] = stretches;
  const sliced = isConsecutive(only!);
  if (sliced && only!.length === tensor.shape[axis]) return made;
  // A slice alone may be a view.
  return { tensor: tf.tidy(() => parts()[0]!), own: !sliced };
}

/** Consecutive indices where many follow each other, and all between them, in order. */
function stretchesOf(indices: readonly number[]): readonly (readonly number[])[] {
  if (isConsecutive(indices)) return [indices];
  const stretches: (readonly number[])[] = [];
  let loose: number[] = [];
  const flush = (): void => {
    if (loose.length > 0) stretches.push(loose);
    loose = [];
  };
  for (let first = 0; first < indices.length; ) {
    let end = first + 1;
    while (indices[end] === indices[end - 1]! + 1) end++;
    if (end - first < shortestSlice) loose.push(...indices.slice(first, end));
    else {
      flush();
      stretches.push(indices.slice(first, end));
    }
    first = end;
  }
  flush();
  return stretches;
}

function isConsecutive(indices: readonly number[]): boolean {
  for (let entry = 1; entry < indices.length; entry++)
    if (indices[entry] !== indices[0]! + entry) return false;
  return true;
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
