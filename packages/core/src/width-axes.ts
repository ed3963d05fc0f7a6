import type { AxisMap } from "./growth-map.js";
import type { AxisRole, ParameterPlace } from "./model-family.js";
import type { ModelShape } from "./shape.js";

/**
 * From which unit of the source each unit of the target is copied. Channels of the residual stream are the same
 * throughout the model; heads and feed-forward units belong to a layer and may be chosen for each anew.
 */
export interface UnitMaps {
  /** `[to.hiddenSize]` of source channels. */
  readonly hidden: readonly number[];
  /** `[to.attentionHeads]` of source heads. */
  heads(layer: number): readonly number[];
  /** `[to.intermediateSize]` of source feed-forward units. */
  intermediate(layer: number): readonly number[];
}

/**
 * What an axis is mapped for. A `weight` is divided by the copy counts of its input axis: the copies of a unit sum to
 * what the unit was. A `gradient`, of a growth that preserves the function, is divided by the copy counts of its other
 * axes: what comes back to a unit is shared by its copies.
 */
export type AxisUse = "weight" | "gradient";

/** The axis maps of a parameter, one for each axis; null for an axis that stays as it is. */
export type AxesOf = (place: ParameterPlace, use: AxisUse) => readonly (AxisMap | null)[];

/** How often each source unit is copied. `[sourceUnits]` */
export function copyCounts(units: readonly number[], sourceUnits: number): number[] {
  const counts = new Array<number>(sourceUnits).fill(0);
  for (const unit of units) counts[unit] = (counts[unit] ?? 0) + 1;
  return counts;
}

/**
 * How the parameters of a family share axes, as index maps: the output map of a parameter is the input map of those that
 * it feeds, because both are the map of the same units. Attention channels move by whole heads, GPT-2's `qkv` axis is
 * three such axes side by side. Maps of the same units are the same object.
 */
export function axisMaps(units: UnitMaps, from: ModelShape): AxesOf {
  const known = new Map<string, AxisMap | null>();
  const axisMap = (role: AxisRole, layer: number | null, scaled: boolean): AxisMap | null => {
    const isLayers = role !== "hidden" && layer !== null;
    const key = `${role} ${isLayers ? layer : ""} ${scaled}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    const made = makeAxisMap(indicesOf(role, layer ?? 0, units, from), scaled);
    known.set(key, made);
    return made;
  };
  return ({ axes, layer, inputAxis, beforeTiedDecoder }, use) =>
    axes.map((role, axis) => {
      const isInput = axis === inputAxis || beforeTiedDecoder === true;
      return axisMap(role, layer, use === "weight" ? isInput : !isInput);
    });
}

/** The entries of an axis that are not there before growth, or null where the axis does not grow. */
export function newEntries(role: AxisRole, from: ModelShape, to: ModelShape): readonly boolean[] | null {
  switch (role) {
    case "hidden":
    case "heads":
      return beyond(from.hiddenSize, to.hiddenSize);
    case "qkv": {
      const block = beyond(from.hiddenSize, to.hiddenSize);
      return block && [...block, ...block, ...block];
    }
    case "intermediate":
      return beyond(from.intermediateSize, to.intermediateSize);
    default:
      return null;
  }
}

/** Whether anything but the depth differs. */
export function isGrowing(from: ModelShape, to: ModelShape): boolean {
  return (["hiddenSize", "attentionHeads", "intermediateSize"] as const).some(
    (axis) => from[axis] !== to[axis],
  );
}

function beyond(source: number, target: number): boolean[] | null {
  return source === target ? null : Array.from({ length: target }, (_, entry) => entry >= source);
}

function indicesOf(
  role: AxisRole,
  layer: number,
  units: UnitMaps,
  from: ModelShape,
): { readonly indices: readonly number[]; readonly length: number } | null {
  switch (role) {
    case "hidden":
      return { indices: units.hidden, length: from.hiddenSize };
    case "heads":
      return { indices: headChannels(units.heads(layer), from), length: from.hiddenSize };
    case "qkv": {
      const channels = headChannels(units.heads(layer), from);
      const indices = [0, 1, 2].flatMap((block) =>
        channels.map((channel) => block * from.hiddenSize + channel),
      );
      return { indices, length: 3 * from.hiddenSize };
    }
    case "intermediate":
      return { indices: units.intermediate(layer), length: from.intermediateSize };
    default:
      return null;
  }
}

function headChannels(heads: readonly number[], from: ModelShape): number[] {
  const headSize = from.hiddenSize / from.attentionHeads;
  return heads.flatMap((head) => Array.from({ length: headSize }, (_, channel) => head * headSize + channel));
}

function makeAxisMap(axis: ReturnType<typeof indicesOf>, scaled: boolean): AxisMap | null {
  if (axis === null) return null;
  const { indices, length } = axis;
  if (indices.length === length && indices.every((source, target) => source === target)) return null;
  if (!scaled) return { kind: "index", indices };
  const counts = copyCounts(indices, length);
  return { kind: "index", indices, scales: indices.map((source) => 1 / counts[source]!) };
}
