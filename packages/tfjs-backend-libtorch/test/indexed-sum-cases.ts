import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { largestDifference, valuesOf } from "./float64.js";
import { normal, runKernels, useLibtorch } from "./libtorch.js";

interface Entries {
  readonly indices: readonly number[];
  readonly scales?: readonly number[];
}

/** Pseudo-random entries of an axis, the first ones in their order: what a growth in width looks like. */
function grown(length: number, to: number): Required<Entries> {
  const indices = Array.from({ length: to }, (_, at) => (at < length ? at : (at * 37 + 11) % length));
  return { indices, scales: indices.map((index, at) => 0.25 + ((index * 7 + at) % 5) / 4) };
}

/** The same entries, with scales of 0 where `isOn` says no. */
function only({ indices, scales }: Required<Entries>, isOn: (at: number) => boolean): Required<Entries> {
  return { indices, scales: scales.map((scale, at) => (isOn(at) ? scale : 0)) };
}

interface Term {
  readonly scale: number;
  readonly axes: readonly (Entries | null)[];
}

/** The sum, an element at a time in double precision. */
function reference(sources: readonly tf.Tensor[], terms: readonly Term[]): number[] {
  const entry = (axis: Entries | null | undefined, at: number) => ({
    index: axis?.indices[at] ?? at,
    scale: axis ? (axis.scales?.[at] ?? 1) : 1,
  });
  const [rows, columns] = [-2, -1].map((axis) => {
    const entries = terms[0]!.axes.at(axis);
    return entries?.indices.length ?? sources[0]!.shape.at(axis) ?? 1;
  }) as [number, number];
  const values = sources.map(valuesOf);
  return Array.from({ length: rows * columns }, (_, at) =>
    terms.reduce((sum, { scale, axes }, term) => {
      const row = entry(axes.length === 1 ? null : axes[0], Math.floor(at / columns));
      const column = entry(axes.at(-1), at % columns);
      const width = sources[term]!.shape.at(-1)!;
      const value = values[term]![row.index * width + column.index]!;
      return sum + (row.scale * column.scale === 0 ? 0 : scale * row.scale * column.scale * value);
    }, 0),
  );
}

/** The tests of `EspalierIndexedSum`, for a device. */
export function describeIndexedSum(device: string): void {
  describe(`EspalierIndexedSum on ${device}`, () => {
    beforeAll(() => useLibtorch(device));

    const [rows, columns] = [grown(70, 100), grown(96, 150)];
    const halves = (axis: Required<Entries>, isOn: (at: number) => boolean) =>
      [only(axis, isOn), only(axis, (at) => !isOn(at))] as const;
    const [oldRows, newRows] = halves(rows, (at) => at < 70);
    const [oldColumns, newColumns] = halves(columns, (at) => at % 50 < 20);
    const many = Array.from({ length: 70 }, (_, term) => ({ scale: 1 / (term + 1), axes: [rows, null] }));

    it.each<[string, number[], Term[]]>([
      ["a copy", [70, 96], [{ scale: 1, axes: [null, null] }]],
      ["rows and columns", [70, 96], [{ scale: 0.5, axes: [rows, columns] }]],
      ["fewer of both", [70, 96], [{ scale: 1, axes: [grown(70, 20), { indices: [95, 0, 3] }] }]],
      ["a vector", [96], [{ scale: 2, axes: [columns] }]],
      ["a kept vector", [96], [{ scale: 2, axes: [null] }]],
      ["terms that overlap", [70, 96], [0.25, 0.75].map((scale) => ({ scale, axes: [rows, columns] }))],
      ["rows in turn", [70, 96], [oldRows, newRows].map((own) => ({ scale: 1, axes: [own, columns] }))],
      ["columns in turn", [70, 96], [oldColumns, newColumns].map((own) => ({ scale: 1, axes: [rows, own] }))],
      ["a vector in turn", [96], [oldColumns, newColumns].map((own) => ({ scale: 1, axes: [own] }))],
      ["what nothing gives to", [70, 96], [{ scale: 1, axes: [oldRows, oldColumns] }]],
      ["more terms than a word has bits", [70, 3], many],
    ])("is, element by element, its definition: %s", (_, shape, terms) => {
      const sources = terms.map((_, term) => normal(shape, term + 1));
      const inputs = Object.fromEntries(sources.map((source, term) => [`source${term}`, source]));
      const [sum] = runKernels("EspalierIndexedSum", inputs, { terms });
      expect(largestDifference(sum!, reference(sources, terms))).toBeLessThan(2e-6);
      expect(sum!.shape).toHaveLength(shape.length);
    });

    it("takes a source in any strides", () => {
      const source = normal([96, 70], 1).transpose();
      const terms = [{ scale: 1, axes: [rows, columns] }];
      const [sum] = runKernels("EspalierIndexedSum", { source0: source }, { terms });
      expect(largestDifference(sum!, reference([source], terms))).toBeLessThan(1e-6);
    });

    it("refuses indices outside of the source, and terms that do not fit each other", () => {
      const run = (terms: Term[], shape = [4, 3]) => {
        const sources = terms.map((_, term) => [`source${term}`, tf.ones(shape)] as const);
        return runKernels("EspalierIndexedSum", Object.fromEntries(sources), { terms });
      };
      for (const index of [-1, 3])
        expect(() => run([{ scale: 1, axes: [null, { indices: [0, index] }] }])).toThrow(/index/i);
      const two = [[0], [0, 1]].map((indices) => ({ scale: 1, axes: [{ indices }, null] }));
      expect(() => run(two)).toThrow("the terms have different shapes");
      expect(() => run([{ scale: 1, axes: [null] }])).toThrow("entries for each axis");
      expect(() => run([])).toThrow("a sum needs a term");
    });
  });
}
