import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { largestDifference, logSumExp, numericGradient, valuesOf } from "./float64.js";
import { normal, runKernels, useLibtorch } from "./libtorch.js";

const BATCH = 2;
const HEADS = 2;
const SEQ = 5;
const SIZE = 4;
const SCALE = 0.37;

interface Options {
  causal: boolean;
  /** The mask's value for a key of one row of the batch, as the query sees it. */
  mask?: (batch: number, query: number, key: number) => number;
}

function attention({ causal, mask }: Options) {
  return (q: number[], k: number[], v: number[]): { y: number[]; logsumexp: number[] } => {
    const y: number[] = [];
    const logsumexp: number[] = [];
    for (let group = 0; group < BATCH * HEADS; group++) {
      const row = (list: number[], at: number) =>
        list.slice((group * SEQ + at) * SIZE, (group * SEQ + at + 1) * SIZE);
      for (let query = 0; query < SEQ; query++) {
        const scores = Array.from({ length: SEQ }, (_, key) => {
          const product = row(q, query).reduce((sum, value, i) => sum + value * row(k, key)[i]!, 0);
          const hidden = causal && key > query ? Number.NEGATIVE_INFINITY : 0;
          return product * SCALE + hidden + (mask?.(Math.floor(group / HEADS), query, key) ?? 0);
        });
        const total = logSumExp(scores);
        logsumexp.push(total);
        for (let i = 0; i < SIZE; i++) {
          y.push(scores.reduce((sum, score, key) => sum + Math.exp(score - total) * row(v, key)[i]!, 0));
        }
      }
    }
    return { y, logsumexp };
  };
}

const padding = (batch: number, _query: number, key: number) => (batch === 1 && key >= 3 ? -1e9 : 0);
const full = (batch: number, query: number, key: number) => Math.sin(batch + 2 * query + 3 * key);

function maskTensor(mask: NonNullable<Options["mask"]>, queries: number): tf.Tensor {
  const values = Array.from({ length: BATCH * queries * SEQ }, (_, index) =>
    mask(Math.floor(index / (queries * SEQ)), Math.floor(index / SEQ) % queries, index % SEQ),
  );
  return tf.tensor(values, [BATCH, 1, queries, SEQ]);
}

const cases = [
  { name: "all positions", causal: false },
  { name: "causal", causal: true },
  { name: "padding", causal: false, mask: padding, queries: 1 },
  { name: "padding and causal", causal: true, mask: padding, queries: 1 },
  { name: "a full mask", causal: false, mask: full, queries: SEQ },
  { name: "a full mask and causal", causal: true, mask: full, queries: SEQ },
];

/** The tests of attention on a device. `cpu` has flash kernels; the others, and `cpu:0`, compute it from products. */
export function describeAttention(device: string): void {
  describe(`EspalierAttention on ${device}`, () => {
    beforeAll(() => useLibtorch(device));

    it.each(cases)("is the formula for $name, and so are its gradients", ({ causal, mask, queries }) => {
      const shape = [BATCH, HEADS, SEQ, SIZE];
      const tensors = { q: normal(shape, 1), k: normal(shape, 2), v: normal(shape, 3) };
      const inputs = { ...tensors, ...(mask ? { mask: maskTensor(mask, queries) } : {}) };
      const reference = attention(mask ? { causal, mask } : { causal });
      const lists = Object.values(tensors).map(valuesOf) as [number[], number[], number[]];
      const attrs = { causal, scale: SCALE };

      const [y, logsumexp] = runKernels("EspalierAttention", inputs, attrs);
      const expected = reference(...lists);
      expect(y!.shape).toEqual(shape);
      expect(largestDifference(y!, expected.y)).toBeLessThan(1e-5);
      expect(largestDifference(logsumexp!, expected.logsumexp)).toBeLessThan(1e-5);

      const dy = normal(shape, 4);
      const gradients = runKernels(
        "EspalierAttentionGrad",
        { dy, ...inputs, y: y!, logsumexp: logsumexp! },
        attrs,
      );
      gradients.forEach((gradient, which) => {
        const numeric = numericGradient(
          ((...given: typeof lists) => reference(...given).y) as never,
          lists,
          which,
          valuesOf(dy),
        );
        expect(gradient.shape).toEqual(shape);
        expect(largestDifference(gradient, numeric)).toBeLessThan(1e-4);
      });
    });

    it("takes heads split off as strided views, as a model gives them", () => {
      const hidden = normal([BATCH, SEQ, 3 * HEADS * SIZE], 5);
      const heads = tf
        .split(hidden, 3, 2)
        .map((part) => part.reshape([BATCH, SEQ, HEADS, SIZE]).transpose([0, 2, 1, 3])) as [
        tf.Tensor,
        tf.Tensor,
        tf.Tensor,
      ];
      const [q, k, v] = heads;
      const attrs = { causal: true, scale: SCALE };
      const [y, logsumexp] = runKernels("EspalierAttention", { q, k, v }, attrs);
      const lists = heads.map(valuesOf) as [number[], number[], number[]];
      expect(largestDifference(y!, attention({ causal: true })(...lists).y)).toBeLessThan(1e-5);
      const dy = normal([BATCH, SEQ, HEADS, SIZE], 6).transpose([0, 2, 1, 3]);
      const strided = runKernels(
        "EspalierAttentionGrad",
        { dy, q, k, v, y: y!, logsumexp: logsumexp! },
        attrs,
      );
      const copy = (tensor: tf.Tensor) => tf.tensor(tensor.dataSync(), tensor.shape);
      const plain = runKernels(
        "EspalierAttentionGrad",
        { dy: copy(dy), q: copy(q), k: copy(k), v: copy(v), y: copy(y!), logsumexp: logsumexp! },
        attrs,
      );
      strided.forEach((gradient, which) => {
        expect(largestDifference(gradient, valuesOf(plain[which]!))).toBeLessThan(1e-6);
      });
    });
  });
}
