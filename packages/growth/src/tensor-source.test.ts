import { loadBackend } from "@espalier/backends";
import { type AxisMap, type GrowthTerm, stream } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { describe, expect, it } from "vitest";
import { sumOfTerms } from "./tensor-source.js";

const random = stream(23);
const draw = (label: string, size: number): number[] => [...random.fork(label).normals(size)];
const [rows, columns] = [40, 48] as const;
const sources = new Map<string, readonly number[]>(
  ["a", "b"].map((name) => [name, draw(name, rows * columns)] as const),
);

type Indices = Extract<AxisMap, { kind: "index" }>;
/** Everything once, then copies in an order of their own; what is copied is divided. */
const widened = (length: number, to: number): Indices => {
  const indices = Array.from({ length: to }, (_, entry) => (entry < length ? entry : (entry * 7) % length));
  const counts = indices.map((index) => indices.filter((other) => other === index).length);
  return { kind: "index", indices, scales: counts.map((count) => 1 / count) };
};
const masked = (map: Indices, isOn: (entry: number) => boolean): Indices => ({
  ...map,
  scales: map.indices.map((_, entry) => (isOn(entry) ? (map.scales?.[entry] ?? 1) : 0)),
});

/** The same sum, an entry at a time. */
function expected(terms: readonly GrowthTerm[]): number[] {
  const at = (map: AxisMap | null | undefined, entry: number): [index: number, scale: number] =>
    map?.kind === "index" ? [map.indices[entry]!, map.scales?.[entry] ?? 1] : [entry, 1];
  const length = (axis: number, size: number) => {
    const map = terms[0]!.axes?.[axis];
    return map?.kind === "index" ? map.indices.length : size;
  };
  const values: number[] = [];
  for (let row = 0; row < length(0, rows); row++)
    for (let column = 0; column < length(1, columns); column++)
      values.push(
        terms.reduce((sum, { from, scale, axes }) => {
          const [sourceRow, byRow] = at(axes?.[0], row);
          const [sourceColumn, byColumn] = at(axes?.[1], column);
          return sum + scale * byRow * byColumn * sources.get(from)![sourceRow * columns + sourceColumn]!;
        }, 0),
      );
  return values;
}

const [tall, wide] = [widened(rows, 60), widened(columns, 72)];
const alternating = (entry: number): boolean => entry % 2 === 0;
const cases: readonly (readonly [what: string, terms: GrowthTerm[]])[] = [
  ["one copy", [{ from: "a", scale: 1 }]],
  ["one scaled copy", [{ from: "a", scale: 0.5 }]],
  ["both axes", [{ from: "a", scale: 1, axes: [tall, wide] }]],
  ["an axis that stays, by indices", [{ from: "a", scale: 1, axes: [widened(rows, rows), null] }]],
  ["the first rows", [{ from: "a", scale: 1, axes: [{ kind: "index", indices: [0, 1, 2] }, null] }]],
  [
    "terms that overlap",
    [
      { from: "a", scale: 0.25, axes: [tall, wide] },
      { from: "b", scale: 0.75, axes: [tall, wide] },
    ],
  ],
  ...([0, 1] as const).flatMap((axis) =>
    [
      ["new entries from another", (entry: number) => entry < [rows, columns][axis]!],
      ["entries in blocks", (entry: number) => entry % 20 < 13],
      ["entries in turn, one by one", alternating],
      ["all from one", () => true],
    ].map(([what, isOn]): [string, GrowthTerm[]] => {
      const on = isOn as (entry: number) => boolean;
      const map = [tall, wide][axis]!;
      const axes = (own: AxisMap) => (axis === 0 ? [own, wide] : [tall, own]);
      return [
        `${what}, axis ${axis}`,
        [
          { from: "a", scale: 1, axes: axes(masked(map, on)) },
          { from: "b", scale: 0.5, axes: axes(masked(map, (entry) => !on(entry))) },
        ],
      ];
    }),
  ),
  [
    "an entry that nothing gives anything to",
    [
      { from: "a", scale: 1, axes: [masked(tall, (entry) => entry > 0 && entry < 30), null] },
      { from: "b", scale: 1, axes: [masked(tall, (entry) => entry > 30), null] },
    ],
  ],
  [
    "a kept axis, all from one",
    ["a", "b"].map((from) => ({
      from,
      scale: 1,
      axes: [null, masked({ kind: "index", indices: [...Array(columns).keys()] }, () => from === "a")],
    })),
  ],
];

// Composed of TensorFlow.js's operations, and by the kernel of the engine that has one.
describe.each(["cpu", "libtorch"])("a sum of terms on %s", (backend) => {
  it.each(cases)("%s: entry by entry what the map says, in memory of its own", async (_, terms) => {
    if (backend === "libtorch") await loadBackend({ backend });
    else await tf.setBackend(backend);
    const tensors = new Map(
      [...sources].map(([name, values]) => [name, tf.tensor([...values], [rows, columns])]),
    );
    const before = tf.memory().numTensors;
    const sum = sumOfTerms(terms, (name) => tensors.get(name)!);
    expect(tf.memory().numTensors).toBe(before + 1);
    expect([...tensors.values()].map(({ dataId }) => dataId)).not.toContain(sum.dataId);
    const values = [...sum.dataSync()];
    const wanted = expected(terms);
    expect(values).toHaveLength(wanted.length);
    const furthest = values.reduce((most, value, at) => Math.max(most, Math.abs(value - wanted[at]!)), 0);
    expect(furthest).toBeLessThan(1e-6);
    tf.dispose([sum, ...tensors.values()]);
  });
});
