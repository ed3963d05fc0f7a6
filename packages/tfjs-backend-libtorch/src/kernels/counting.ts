import {
  type BincountAttrs,
  type BincountInputs,
  type DenseBincountAttrs,
  type DenseBincountInputs,
  type MultinomialAttrs,
  type MultinomialInputs,
  type TensorInfo,
  type UniqueAttrs,
  type UniqueInputs,
  util,
} from "@tensorflow/tfjs";
import type { NativeTensor } from "../addon.js";
import { aten } from "../aten.js";
import { nativeType } from "../dtypes.js";
import { type Frame, type Kernel, kernel } from "../kernel.js";
import { runOnStrings } from "../strings.js";

const operators = {
  less: aten("lt.Scalar"),
  any: aten("any"),
  reshape: aten("reshape"),
  full: aten("full"),
  onesLike: aten("ones_like"),
  clampMax: aten("clamp_max"),
  scatterAdd: aten("scatter_add"),
  notEqual: aten("ne.Scalar"),
  slice: aten("slice.Tensor"),
  softmax: aten("_softmax"),
  multinomial: aten("multinomial"),
  indexSelect: aten("index_select"),
};

/** Counts the values of each of x's rows → [rows, size]; values of `size` and more are left out. */
function counts(frame: Frame, x: TensorInfo, weights: TensorInfo, rows: number, size: number): NativeTensor {
  const value = frame.tensorAs(x, "int32");
  const found = new Uint8Array(1);
  frame.backend.addon.toData(frame.call(operators.any, frame.call(operators.less, value, 0)), found);
  if (found[0] !== 0) throw new Error("Input x must be non-negative!");
  const columns = util.sizeFromShape(x.shape) / Math.max(rows, 1);
  const type = nativeType(weights.dtype);
  // One more place than asked for takes what is left out.
  const places = frame.call(
    operators.clampMax,
    frame.cast(frame.call(operators.reshape, value, [rows, columns]), "int64"),
    size,
  );
  const weighted = util.sizeFromShape(weights.shape) > 0;
  const amounts = weighted
    ? frame.call(operators.reshape, frame.tensor(weights), [rows, columns])
    : frame.call(operators.onesLike, places, type);
  const empty = frame.call(operators.full, [rows, size + 1], 0, type, undefined, frame.backend.device);
  const counted = frame.call(operators.scatterAdd, empty, 1, places, amounts);
  return frame.call(operators.slice, counted, 1, 0, size, 1);
}

const bincount = kernel<BincountInputs, BincountAttrs>("Bincount", (frame, { x, weights }, { size }) => {
  const counted = counts(frame, x, weights, 1, size);
  return frame.output(frame.call(operators.reshape, counted, [size]), weights.dtype);
});

const denseBincount = kernel<DenseBincountInputs, DenseBincountAttrs>(
  "DenseBincount",
  (frame, { x, weights }, { size, binaryOutput = false }) => {
    if (x.shape.length > 2) {
      throw new Error(
        `Error in denseBincount: input must be at most rank 2, but got rank ${x.shape.length}.`,
      );
    }
    const rows = x.shape.length === 2 ? (x.shape[0] ?? 0) : 1;
    const counted = counts(frame, x, weights, rows, size);
    const result = binaryOutput
      ? frame.cast(frame.call(operators.notEqual, counted, 0), nativeType(weights.dtype))
      : counted;
    const shape = x.shape.length === 2 ? [rows, size] : [size];
    return frame.output(frame.call(operators.reshape, result, shape), weights.dtype);
  },
);

/** A text for each entry of an axis; equal entries have equal texts. */
function entryKeys(frame: Frame, x: TensorInfo, axis: number): string[] {
  const values = frame.backend.readSync(x.dataId) as ArrayLike<number | Uint8Array>;
  const length = x.shape[axis] ?? 0;
  const inner = util.sizeFromShape(x.shape.slice(axis + 1));
  const outer = util.sizeFromShape(x.shape.slice(0, axis));
  return Array.from({ length }, (_, entry) => {
    const key: string[] = [];
    for (let before = 0; before < outer; before++) {
      for (let after = 0; after < inner; after++) {
        key.push(String(values[(before * length + entry) * inner + after]));
      }
    }
    return key.join(";");
  });
}

/** The distinct entries of an axis in the order of their first appearance, and each entry's number among them. */
const unique = kernel<UniqueInputs, UniqueAttrs>("Unique", (frame, { x }, { axis }) => {
  const [along = 0] = util.parseAxisParam(axis, x.shape);
  const numbers = new Map<string, number>();
  const firsts: number[] = [];
  const indices = entryKeys(frame, x, along).map((key, entry) => {
    const known = numbers.get(key);
    if (known !== undefined) return known;
    numbers.set(key, firsts.length);
    firsts.push(entry);
    return firsts.length - 1;
  });
  const entries = frame.constant(firsts, [firsts.length], "int32");
  const distinct = runOnStrings(frame, { x }, (given) => {
    const source = given.x as TensorInfo;
    return frame.output(
      frame.call(operators.indexSelect, frame.tensor(source), along, entries),
      source.dtype,
    );
  });
  return [distinct as TensorInfo, frame.output(frame.constant(indices, [indices.length], "int32"), "int32")];
});

/** TensorFlow.js's seeds are any numbers, mostly fractions; a generator's seed is a whole one. */
function wholeSeed(seed: number): number {
  const [low = 0, high = 0] = new Uint32Array(Float64Array.of(seed).buffer);
  return (low ^ Math.imul(high, 0x9e3779b1)) >>> 0;
}

const multinomial = kernel<MultinomialInputs, MultinomialAttrs>(
  "Multinomial",
  (frame, { logits }, { numSamples, seed, normalized }) => {
    const value = frame.tensorAs(logits, "float32");
    const probabilities = normalized ? value : frame.call(operators.softmax, value, -1, false);
    const drawn = frame.call(operators.multinomial, probabilities, numSamples, true, wholeSeed(seed));
    return frame.output(drawn, "int32");
  },
);

/** Counting, distinct entries, and drawing from a distribution. */
export const countingKernels: readonly Kernel[] = [bincount, denseBincount, unique, multinomial];
