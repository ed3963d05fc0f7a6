import { EspalierError } from "./errors.js";
import type { AxisMap, GrowthMap, GrowthTerm, ParameterGrowth, SlotSource } from "./growth-map.js";
import type { Json, JsonObject } from "./json.js";

/**
 * A growth map as compact JSON: axis maps stand once in a table, indices as ranges (`0-511,17,3`), scales as runs of
 * `[value, count]`. A growth of BERT-Base from 512 to 768 channels is some hundred kilobytes.
 */
export function serializeGrowthMap(map: GrowthMap): JsonObject {
  const table: Json[] = [];
  const places = new Map<AxisMap, number>();
  const texts = new Map<string, number>();
  const axisNumber = (axis: AxisMap | null): number | null => {
    if (axis === null) return null;
    const known = places.get(axis);
    if (known !== undefined) return known;
    const json = compactAxis(axis);
    const text = JSON.stringify(json);
    const number = texts.get(text) ?? table.push(json) - 1;
    texts.set(text, number);
    places.set(axis, number);
    return number;
  };
  const term = ({ from, scale, axes }: GrowthTerm): Json => ({
    from,
    scale,
    ...(axes ? { axes: axes.map(axisNumber) } : {}),
  });
  const slot = (source: SlotSource): Json => {
    if (source.kind === "zeros") return { kind: "zeros" };
    if (source.kind === "sum") return { kind: "sum", terms: source.terms.map(term) };
    return { kind: "initialize", ...(source.over ? { over: term(source.over) } : {}) };
  };
  const parameters: { [name: string]: Json } = {};
  for (const [name, growth] of Object.entries(map.parameters))
    parameters[name] = {
      weight: slot(growth.weight),
      firstMoment: slot(growth.firstMoment),
      secondMoment: slot(growth.secondMoment),
      stepCount:
        growth.stepCount.kind === "zero"
          ? { kind: "zero" }
          : { kind: "from", names: [...growth.stepCount.names] },
    };
  return {
    format: "espalier-growth-map",
    version: 1,
    expander: map.expander,
    from: { ...map.from },
    to: { ...map.to },
    layerMap: map.layerMap === null ? null : [...map.layerMap],
    axes: table,
    parameters,
  };
}

type Stored<T> = T extends AxisMap ? number : T extends object ? { [Key in keyof T]: Stored<T[Key]> } : T;

/**
 * Reads what {@link serializeGrowthMap} wrote. What the map says is checked where it is applied.
 *
 * @throws EspalierError ESPALIER_GROWTH_MAP_INVALID if it is something else
 */
export function deserializeGrowthMap(json: JsonObject): GrowthMap {
  if (json.format !== "espalier-growth-map" || json.version !== 1 || !Array.isArray(json.axes))
    throw new EspalierError("ESPALIER_GROWTH_MAP_INVALID", "this is no growth map of version 1");
  const axes = json.axes.map((axis) => expandedAxis(axis as JsonObject));
  // The format's own word for it; `applyGrowthMap` holds every entry against the model.
  const stored = json as unknown as Stored<GrowthMap>;
  const term = ({ from, scale, axes: numbers }: Stored<GrowthTerm>): GrowthTerm => ({
    from,
    scale,
    ...(numbers ? { axes: numbers.map((number) => (number === null ? null : axes[number]!)) } : {}),
  });
  const slot = (source: Stored<SlotSource>): SlotSource => {
    if (source.kind === "zeros") return { kind: "zeros" };
    if (source.kind === "sum") return { kind: "sum", terms: source.terms.map(term) };
    return { kind: "initialize", ...(source.over ? { over: term(source.over) } : {}) };
  };
  const parameters: { [name: string]: ParameterGrowth } = {};
  for (const [name, growth] of Object.entries(stored.parameters))
    parameters[name] = {
      weight: slot(growth.weight),
      firstMoment: slot(growth.firstMoment),
      secondMoment: slot(growth.secondMoment),
      stepCount: growth.stepCount,
    };
  const { expander, from, to, layerMap } = stored;
  return { expander, from, to, layerMap, parameters };
}

function compactAxis(axis: AxisMap): Json {
  if (axis.kind === "matrix") return { kind: "matrix", rows: axis.rows.map((row) => [...row]) };
  return {
    kind: "index",
    indices: ranges(axis.indices),
    ...(axis.scales ? { scales: runs(axis.scales) } : {}),
  };
}

function expandedAxis(axis: JsonObject): AxisMap {
  if (axis.kind === "matrix") return { kind: "matrix", rows: axis.rows as number[][] };
  const indices = String(axis.indices)
    .split(",")
    .flatMap((part) => {
      const [first, last = first] = part.split("-").map(Number) as [number, number?];
      return Array.from({ length: last - first + 1 }, (_, more) => first + more);
    });
  if (axis.scales === undefined) return { kind: "index", indices };
  const scales = (axis.scales as [number, number][]).flatMap(([value, count]) =>
    new Array<number>(count).fill(value),
  );
  return { kind: "index", indices, scales };
}

function ranges(indices: readonly number[]): string {
  const parts: string[] = [];
  for (let first = 0; first < indices.length; ) {
    let last = first;
    while (indices[last + 1] === indices[last]! + 1) last++;
    parts.push(first === last ? String(indices[first]) : `${indices[first]}-${indices[last]}`);
    first = last + 1;
  }
  return parts.join(",");
}

function runs(values: readonly number[]): [number, number][] {
  const found: [number, number][] = [];
  for (const value of values) {
    const last = found.at(-1);
    if (last && last[0] === value) last[1]++;
    else found.push([value, 1]);
  }
  return found;
}
