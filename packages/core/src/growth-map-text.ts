import {
  type AxisMap,
  type GrowthMap,
  type GrowthTerm,
  isCopyOf,
  type ParameterGrowth,
  type SlotSource,
  type StepCountSource,
} from "./growth-map.js";
import { formatShape } from "./shape.js";

/**
 * A growth map for people: shapes, layer map, and a line for each group of parameters that are made alike, over layers,
 * too: `h.{2,3} = h.{0,1}` makes layer 2 from 0 and layer 3 from 1. `*` on the right is the name on the left; `(the rest)`
 * of a layer are those of its parameters that no other line names.
 *
 * @example
 * stacking: 2×8, 2 heads, intermediate 32 → 4×8, 2 heads, intermediate 32
 * layers: 0 1 0 1
 *   unchanged: wte.weight, wpe.weight, h.{0,1}.*, ln_f.weight, ln_f.bias (28 parameters)
 *   h.{2,3}.* = 0.5 · h.{0,1}.* (24 parameters); moments = 0.5 · h.{0,1}.*, the second by squared scales; step count of h.{0,1}.*
 */
export function describeGrowthMap(map: GrowthMap): string {
  const lines = [`${map.expander}: ${formatShape(map.from)} → ${formatShape(map.to)}`];
  if (map.layerMap) lines.push(`layers: ${map.layerMap.join(" ")}`);
  const groups = groupsOf(map);
  const kept = groups.filter(({ making }) => making === null);
  if (kept.length > 0) {
    const names = kept.map((group) => filled(group.target, group.layers));
    lines.push(
      `  unchanged: ${names.join(", ")} (${countOf(kept.reduce((sum, { size }) => sum + size, 0))})`,
    );
  }
  for (const { target, layers, making, size } of groups) {
    if (making === null) continue;
    const { weight, rest } = making;
    lines.push(
      `  ${filled(target, layers)} = ${filled(weight, layers)} (${countOf(size)}); ${filled(rest, layers)}`,
    );
  }
  return lines.join("\n");
}

/** How a parameter is made; null for one that stays as it is. */
type Making = { readonly weight: string; readonly rest: string } | null;

/** Parameters that are made alike. The texts hold a mark for each number of a layer. */
interface Group {
  readonly target: string;
  readonly making: Making;
  /** The numbers by mark, one for each layer of the group; those of mark 0 are the target's. */
  readonly layers: number[][];
  size: number;
}

/** The parameters of one layer (or the one outside of layers) that are made alike. */
interface Alike {
  readonly suffixes: string[];
  readonly making: Making;
  /** The layers by mark. */
  readonly numbers: readonly number[];
}

function groupsOf(map: GrowthMap): Group[] {
  const layers = new Map<string, Map<string, Alike>>();
  for (const [name, growth] of Object.entries(map.parameters)) {
    const { prefix, layer, suffix } = placeOf(name);
    const inLayer = layers.get(`${prefix} ${layer}`) ?? new Map<string, Alike>();
    layers.set(`${prefix} ${layer}`, inLayer);
    const alike = describeParameter(name, growth);
    const key = JSON.stringify([alike.making, alike.numbers]);
    const known = inLayer.get(key);
    if (known) known.suffixes.push(suffix);
    else inLayer.set(key, { ...alike, suffixes: [suffix] });
  }
  const groups = new Map<string, Group>();
  for (const [layer, inLayer] of layers) {
    const prefix = layer.slice(0, layer.lastIndexOf(" "));
    const parts = [...inLayer.values()];
    const largest = [...parts].sort((a, b) => b.suffixes.length - a.suffixes.length)[0];
    for (const part of parts) {
      const { making, numbers, suffixes } = part;
      const target = numbers[0] === none ? prefix : `${prefix}${mark(0)}.${names(part)}`;
      const key = JSON.stringify([target, making]);
      const group = groups.get(key) ?? { target, making, layers: numbers.map(() => []), size: 0 };
      groups.set(key, group);
      for (const [place, number] of numbers.entries()) group.layers[place]!.push(number);
      group.size += suffixes.length;
    }
    function names(part: Alike): string {
      if (parts.length === 1) return "*";
      if (part === largest && part.suffixes.length > 3) return "(the rest)";
      return part.suffixes.length === 1 ? part.suffixes[0]! : `{${part.suffixes.join(", ")}}`;
    }
  }
  return [...groups.values()];
}

/** Stands for the layer of what is outside of the layers. */
const none = -1;

/** `h.3.attn.c_attn.weight` is `attn.c_attn.weight` of layer 3 under `h.`: the first number in a name is the layer. */
function placeOf(name: string): { readonly prefix: string; readonly layer: number; readonly suffix: string } {
  const found = /^(.*?)(\d+)\.(.+)$/.exec(name);
  return found
    ? { prefix: found[1]!, layer: Number(found[2]), suffix: found[3]! }
    : { prefix: name, layer: none, suffix: "" };
}

// No name of a parameter holds these characters.
const mark = (place: number): string => `‹${place}›`;

function filled(text: string, layers: readonly (readonly number[])[]): string {
  return text.replace(/‹(\d+)›/g, (_, place) => numbersOf(layers[Number(place)]!));
}

// 0,1,2,3 as {0-3}; what is the same throughout, as one number.
function numbersOf(numbers: readonly number[]): string {
  if (new Set(numbers).size === 1) return String(numbers[0]);
  const parts: string[] = [];
  for (let first = 0; first < numbers.length; ) {
    let last = first;
    while (numbers[last + 1] === numbers[last]! + 1) last++;
    if (last === first + 1) last = first;
    parts.push(first === last ? String(numbers[first]) : `${numbers[first]}-${numbers[last]}`);
    first = last + 1;
  }
  return `{${parts.join(",")}}`;
}

function countOf(parameters: number): string {
  return parameters === 1 ? "1 parameter" : `${parameters} parameters`;
}

function describeParameter(target: string, growth: ParameterGrowth): Omit<Alike, "suffixes"> {
  const own = placeOf(target);
  const numbers = [own.layer];
  const { weight, firstMoment, secondMoment, stepCount } = growth;
  if (isUnchanged(target, growth)) return { making: null, numbers };
  const making = {
    weight: describeSlot(weight, nameOf),
    rest: `${describeMoments(firstMoment, secondMoment, nameOf)}; ${describeStepCount(stepCount, nameOf)}`,
  };
  return { making, numbers };

  function nameOf(source: string): string {
    const { prefix, layer, suffix } = placeOf(source);
    if (layer === none) return source;
    numbers.push(layer);
    const rest = prefix === own.prefix && suffix === own.suffix ? "*" : suffix;
    return `${prefix}${mark(numbers.length - 1)}.${rest}`;
  }
}

/** How a source is written in the line of the parameter that is made from it. */
type NameOf = (source: string) => string;

function isUnchanged(name: string, growth: ParameterGrowth): boolean {
  const { stepCount } = growth;
  return (
    isCopyOf(growth.weight, name) &&
    isCopyOf(growth.firstMoment, name) &&
    isCopyOf(growth.secondMoment, name) &&
    stepCount.kind === "from" &&
    stepCount.names.length === 1 &&
    stepCount.names[0] === name
  );
}

function describeMoments(first: SlotSource, second: SlotSource, nameOf: NameOf): string {
  if (isScaledLike(second, first, (scale) => scale)) return `moments = ${describeSlot(first, nameOf)}`;
  if (isScaledLike(second, first, (scale) => scale * scale))
    return `moments = ${describeSlot(first, nameOf)}, the second by squared scales`;
  return `first moment = ${describeSlot(first, nameOf)}; second moment = ${describeSlot(second, nameOf)}`;
}

/** Whether a slot is made as another is, with each of its scales (or entries of a matrix) changed like that. */
function isScaledLike(slot: SlotSource, other: SlotSource, expected: (scale: number) => number): boolean {
  if (slot.kind !== "sum" || other.kind !== "sum")
    return slot.kind === other.kind && JSON.stringify(slot) === JSON.stringify(other);
  const isLike = (scale: number, before: number): boolean =>
    Math.abs(scale - expected(before)) <= 1e-12 * Math.abs(scale);
  const isAxisLike = (axis: AxisMap | null, before: AxisMap | null): boolean => {
    if (axis === null || before === null) return axis === before;
    if (axis.kind === "matrix" || before.kind === "matrix")
      return (
        axis.kind === "matrix" &&
        before.kind === "matrix" &&
        axis.rows.length === before.rows.length &&
        axis.rows.every((row, at) => row.every((value, column) => isLike(value, before.rows[at]![column]!)))
      );
    return (
      axis.indices.length === before.indices.length &&
      axis.indices.every((from, at) => from === before.indices[at]) &&
      axis.indices.every((_, at) => isLike(axis.scales?.[at] ?? 1, before.scales?.[at] ?? 1))
    );
  };
  return (
    slot.terms.length === other.terms.length &&
    slot.terms.every((term, at) => {
      const before = other.terms[at]!;
      const count = Math.max(term.axes?.length ?? 0, before.axes?.length ?? 0);
      return (
        term.from === before.from &&
        isLike(term.scale, before.scale) &&
        Array.from({ length: count }).every((_, axis) =>
          isAxisLike(term.axes?.[axis] ?? null, before.axes?.[axis] ?? null),
        )
      );
    })
  );
}

function describeSlot(slot: SlotSource, nameOf: NameOf): string {
  if (slot.kind === "zeros") return "0";
  if (slot.kind === "initialize")
    return slot.over ? `initialised, over it ${describeTerm(slot.over, nameOf)}` : "initialised";
  return slot.terms.map((term) => describeTerm(term, nameOf)).join(" + ");
}

function describeTerm(term: GrowthTerm, nameOf: NameOf): string {
  const name = nameOf(term.from);
  const axes = (term.axes ?? []).map(describeAxis).join(", ");
  const source = /[^-, ]/.test(axes) ? `${name}[${axes}]` : name;
  return term.scale === 1 ? source : `${term.scale} · ${source}`;
}

function describeAxis(axis: AxisMap | null): string {
  if (axis === null) return "-";
  if (axis.kind === "matrix") return `matrix ${axis.rows.length}×${axis.rows[0]?.length ?? 0}`;
  const isScaled = axis.scales?.some((scale) => scale !== 1) === true;
  return `${axis.indices.length} by index${isScaled ? ", scaled" : ""}`;
}

function describeStepCount(stepCount: StepCountSource, nameOf: NameOf): string {
  if (stepCount.kind === "zero") return "step count 0";
  return `step count of ${stepCount.names.map(nameOf).join(", ")}`;
}
