import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { type AttentionProblem, attentionReference } from "../../../test/attention-reference.js";
import { addonPathOfTests, normal, runKernels, useLibtorch } from "../../../test/libtorch.js";
import type { NativeTensor } from "../../addon.js";
import { aten, ownOperator } from "../../aten.js";
import type { LibtorchBackend } from "../../backend.js";
import { loadLibtorch } from "../../load.js";

interface Sizes {
  batch: number;
  heads: number;
  sequence: number;
  channels: number;
}

interface Options {
  masked: boolean;
  causal: boolean;
  rate: number;
}

const SEED = 11;

/** Inputs of one call, and what it should give. */
function problemOf(sizes: Sizes, { masked, causal, rate }: Options) {
  const { batch, heads, sequence, channels } = sizes;
  const packed = normal([batch * sequence, 3 * heads * channels], 1);
  const dy = normal([batch * sequence, heads * channels], 2);
  // Padding at the end of odd rows, at the start of even ones, where a causal model then sees nothing else.
  const padding = Array.from({ length: batch * sequence }, (_, index) => {
    const position = index % sequence;
    const padded = Math.floor(sequence / 3);
    const hidden = Math.floor(index / sequence) % 2 ? position >= sequence - padded : position < padded;
    return hidden ? -1e9 : 0;
  });
  const mask = masked ? tf.tensor4d(padding, [batch, 1, 1, sequence]) : null;
  const probabilities = [batch, heads, sequence, sequence];
  const keep =
    rate > 0
      ? runKernels("EspalierDropout", { x: tf.ones(probabilities) }, { rate, seed: SEED, offset: 0 })
      : null;
  const problem: AttentionProblem = {
    ...sizes,
    causal,
    scale: 1 / Math.sqrt(channels),
    mask: masked ? padding : null,
    keep: keep ? keep[1]!.dataSync() : null,
  };
  const attributes = { heads, sequenceLength: sequence, causal, scale: problem.scale, rate, seed: SEED };
  return { packed, dy, mask, problem, attributes };
}

function run({
  packed,
  dy,
  mask,
  attributes,
}: Pick<ReturnType<typeof problemOf>, "packed" | "dy" | "mask" | "attributes">) {
  const masked: tf.NamedTensorMap = mask ? { mask } : {};
  const [y, logsumexp] = runKernels("EspalierPackedAttention", { packed, ...masked }, attributes);
  const [dpacked] = runKernels(
    "EspalierPackedAttentionGrad",
    { dy, packed, y: y!, logsumexp: logsumexp!, ...masked },
    attributes,
  );
  return { y: y!, dpacked: dpacked! };
}

/** The largest difference, in units of the reference's largest value. */
function error(actual: ArrayLike<number>, expected: Float64Array): number {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  let largest = 0;
  for (let index = 0; index < expected.length; index++) {
    const difference = Math.abs(actual[index]! - expected[index]!);
    worst = Math.max(worst, Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
    largest = Math.max(largest, Math.abs(expected[index]!));
  }
  return worst / largest;
}

const options: readonly Options[] = [false, true].flatMap((masked) =>
  [false, true].flatMap((causal) => [0, 0.2].map((rate) => ({ masked, causal, rate }))),
);

const described = ({ masked, causal, rate }: Options) =>
  [masked ? "padding" : "", causal ? "causal" : "", rate > 0 ? "dropout" : ""].filter(Boolean).join(", ") ||
  "plain";

/** Every option on the sizes where blocks, vectors and pairs of the mask end unevenly. */
const small = [
  { batch: 2, heads: 2, sequence: 1, channels: 8 },
  { batch: 2, heads: 3, sequence: 7, channels: 5 },
  { batch: 2, heads: 2, sequence: 33, channels: 16 },
  { batch: 2, heads: 1, sequence: 50, channels: 13 },
  { batch: 2, heads: 1, sequence: 128, channels: 32 },
  { batch: 2, heads: 1, sequence: 101, channels: 64 },
];

const large: readonly [Sizes, Options][] = [
  [
    { batch: 1, heads: 2, sequence: 200, channels: 80 },
    { masked: false, causal: false, rate: 0 },
  ],
  [
    { batch: 2, heads: 1, sequence: 200, channels: 80 },
    { masked: true, causal: true, rate: 0.1 },
  ],
  [
    { batch: 1, heads: 1, sequence: 512, channels: 64 },
    { masked: false, causal: true, rate: 0 },
  ],
  [
    { batch: 1, heads: 1, sequence: 512, channels: 64 },
    { masked: true, causal: false, rate: 0.1 },
  ],
  [
    { batch: 1, heads: 2, sequence: 300, channels: 24 },
    { masked: false, causal: true, rate: 0.3 },
  ],
];

const cases = [
  ...small.flatMap((sizes) => options.map((option) => [sizes, option] as [Sizes, Options])),
  ...large,
].map(([sizes, option]) => ({
  name: `${sizes.sequence} positions, ${sizes.heads} × ${sizes.channels}, ${described(option)}`,
  sizes,
  option,
}));

describe("EspalierPackedAttention", () => {
  beforeAll(() => useLibtorch());

  it.each(cases)("is the definition, and so is its gradient: $name", ({ sizes, option }) => {
    tf.tidy(() => {
      const given = problemOf(sizes, option);
      const { y, dpacked } = run(given);
      const expected = attentionReference(given.problem, given.packed.dataSync(), given.dy.dataSync());
      expect(y.shape).toEqual([sizes.batch * sizes.sequence, sizes.heads * sizes.channels]);
      expect(dpacked.shape).toEqual(given.packed.shape);
      expect(error(y.dataSync(), expected.y)).toBeLessThan(3e-6);
      expect(error(dpacked.dataSync(), expected.dpacked)).toBeLessThan(3e-6);
    });
  });

  it.each(cases)("stays within bfloat16's rounding on bfloat16: $name", ({ sizes, option }) => {
    tf.tidy(() => {
      const given = problemOf(sizes, option);
      const { y, dpacked, packed, dy } = runBfloat16(given);
      const expected = attentionReference(given.problem, packed, dy);
      // Eight bits of mantissa: 2⁻⁸ of each value, a few times over where they cancel.
      expect(error(y, expected.y)).toBeLessThan(0.01);
      expect(error(dpacked, expected.dpacked)).toBeLessThan(0.015);
    });
  });

  it("gives the same bits again, and with any number of threads", () => {
    const addonPath = addonPathOfTests();
    tf.tidy(() => {
      const given = problemOf(
        { batch: 3, heads: 2, sequence: 77, channels: 16 },
        { masked: true, causal: true, rate: 0.1 },
      );
      const bits = () => {
        const { y, dpacked } = run(given);
        const half = runBfloat16(given);
        return [y.dataSync(), dpacked.dataSync(), half.y, half.dpacked].map((values) => Array.from(values));
      };
      const first = bits();
      expect(bits()).toEqual(first);
      loadLibtorch({ addonPath, threads: 1 });
      expect(bits()).toEqual(first);
      loadLibtorch({ addonPath, threads: 2 });
    });
  });

  it("keeps no native tensor beyond its results", () => {
    tf.tidy(() => {
      const given = problemOf(
        { batch: 2, heads: 2, sequence: 9, channels: 8 },
        { masked: true, causal: true, rate: 0.1 },
      );
      const handles = () => (tf.memory() as unknown as { nativeHandles: number }).nativeHandles;
      const before = handles();
      const masked = { mask: given.mask! };
      const [y, logsumexp, ...more] = runKernels(
        "EspalierPackedAttention",
        { packed: given.packed, ...masked },
        given.attributes,
      );
      expect(more).toEqual([]);
      expect(handles()).toBe(before + 2);
      const inputs = { dy: given.dy, packed: given.packed, y: y!, logsumexp: logsumexp!, ...masked };
      const [dpacked] = runKernels("EspalierPackedAttentionGrad", inputs, given.attributes);
      expect(handles()).toBe(before + 3);
      tf.dispose([y!, logsumexp!, dpacked!]);
      expect(handles()).toBe(before);
    });
  });

  it("refuses what does not fit together, naming it", () => {
    tf.tidy(() => {
      const attributes = { heads: 2, sequenceLength: 4, causal: false, scale: 1, rate: 0, seed: 0 };
      const attend = (inputs: Record<string, tf.Tensor>, changed = {}) =>
        runKernels("EspalierPackedAttention", inputs, { ...attributes, ...changed });
      const packed = tf.ones([8, 18]);
      expect(() => attend({ packed: tf.ones([8, 17]) })).toThrow(
        /packed must be \[batch \* sequence, 3 \* heads \* channels\]/,
      );
      expect(() => attend({ packed: tf.ones([7, 18]) })).toThrow(/multiple of the sequence of 4, got 7/);
      expect(() => attend({ packed, mask: tf.ones([2, 1, 1, 5]) })).toThrow(
        /the mask must be \[2, 1, 1, 4\]/,
      );
      expect(() => attend({ packed }, { heads: 0 })).toThrow(/must be positive/);
      expect(() => attend({ packed }, { rate: 1 })).toThrow(/rate of dropout must be in \[0, 1\), got 1/);
      const [y, logsumexp] = attend({ packed }) as [tf.Tensor, tf.Tensor];
      const gradient = (inputs: Record<string, tf.Tensor>) =>
        runKernels("EspalierPackedAttentionGrad", { dy: y, packed, y, logsumexp, ...inputs }, attributes);
      expect(() => gradient({ dy: tf.ones([8, 5]) })).toThrow(/dy must be \[8, 6\], got \[8, 5\]/);
      expect(() => gradient({ y: tf.ones([4, 6]) })).toThrow(/y must be \[8, 6\], got \[4, 6\]/);
      expect(() => gradient({ logsumexp: tf.ones([2, 2, 3]) })).toThrow(/logsumexp must be \[2, 2, 4\]/);
    });
  });
});

const operators = {
  attention: ownOperator("packed_attention"),
  backward: ownOperator("packed_attention_backward"),
  to: aten("to.dtype"),
};

/** The operators themselves on bfloat16, and the inputs as they were rounded. */
function runBfloat16({
  packed,
  dy,
  mask,
  attributes,
}: Pick<ReturnType<typeof problemOf>, "packed" | "dy" | "mask" | "attributes">) {
  const backend = tf.backend() as LibtorchBackend;
  const { heads, sequenceLength, causal, scale, rate, seed } = attributes;
  const owned: NativeTensor[] = [];
  const own = (tensor: NativeTensor) => {
    owned.push(tensor);
    return tensor;
  };
  const rounded = (tensor: tf.Tensor) =>
    own(backend.call(operators.to, [backend.stored(tensor.dataId).tensor, "bfloat16"]) as NativeTensor);
  const values = (tensor: NativeTensor, size: number) => {
    const array = new Float32Array(size);
    backend.addon.toData(tensor, array);
    return array;
  };
  try {
    const inputs = { packed: rounded(packed), dy: rounded(dy) };
    const added = mask ? backend.stored(mask.dataId).tensor : null;
    const settings = [heads, sequenceLength, causal, scale, rate, seed];
    const [y, logsumexp] = backend.call(operators.attention, [
      inputs.packed,
      added,
      ...settings,
    ]) as NativeTensor[];
    own(y!);
    own(logsumexp!);
    const given = [inputs.dy, inputs.packed, y!, logsumexp!, added, ...settings];
    const dpacked = own(backend.call(operators.backward, given) as NativeTensor);
    return {
      packed: values(inputs.packed, packed.size),
      dy: values(inputs.dy, dy.size),
      y: values(y!, dy.size),
      dpacked: values(dpacked, packed.size),
    };
  } finally {
    for (const tensor of owned) backend.addon.free(tensor);
  }
}
