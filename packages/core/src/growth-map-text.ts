import { createHash } from "node:crypto";
import { canonicalJson } from "./canonical-json.js";
import {
  type AxisMap,
  type GrowthMap,
  type GrowthTerm,
  isCopyOf,
  type ParameterGrowth,
  type SlotSource,
  type StepCountSource,
} from "./growth-map.js";
import type { Json } from "./json.js";
import { formatShape, shapeOf } from "./shape.js";

/**
 * SHA-256 of what a growth map makes, as 64 hexadecimal digits. Two maps have the same hash exactly when they lead from the
 * same shape to the same shape and make every slot of every parameter by the same terms. The expander's name and the layer
 * map say how the map was planned, and do not count.
 */
export function hashGrowthMap(map: GrowthMap): string {
  return createHash("sha256")
    .update(canonicalJson(plain(map)))
    .digest("hex");
}

// Written out field by field: what is hashed is the contract, whatever else an object carries.
function plain(map: GrowthMap): Json {
  const parameters: { [name: string]: Json } = {};
  for (const [name, growth] of Object.entries(map.parameters))
    parameters[name] = {
      weight: plainSlot(growth.weight),
      firstMoment: plainSlot(growth.firstMoment),
      secondMoment: plainSlot(growth.secondMoment),
      stepCount:
        growth.stepCount.kind === "from"
          ? { kind: "from", names: [...growth.stepCount.names].sort() }
          : { kind: "zero" },
    };
  return {
    from: { ...shapeOf(map.from) },
    to: { ...shapeOf(map.to) },
    parameters,
  };
}

function plainSlot(slot: SlotSource): Json {
  if (slot.kind === "zeros") return { kind: "zeros" };
  if (slot.kind === "sum") return { kind: "sum", terms: slot.terms.map(plainTerm) };
  return { kind: "initialize", ...(slot.over ? { over: plainTerm(slot.over) } : {}) };
}

function plainTerm(term: GrowthTerm): Json {
  return {
    from: term.from,
    scale: term.scale,
    // No axes and only unchanged axes are the same map.
    ...(term.axes?.some((axis) => axis !== null) ? { axes: term.axes.map(plainAxis) } : {}),
  };
}

function plainAxis(axis: AxisMap | null): Json {
  if (axis === null) return null;
  if (axis.kind === "matrix") return { kind: "matrix", rows: axis.rows };
  const { indices, scales } = axis;
  // No scales and only scales of 1 are the same map.
  return { kind: "index", indices, ...(scales?.some((scale) => scale !== 1) ? { scales } : {}) };
}

/**
 * A growth map for people: shapes, layer map, and a line for each group of parameters that are made alike (the
 * parameters of a layer are one group where the same is done to all of them).
 *
 * @example
 * interpolation: 1×8, 2 heads, intermediate 32 → 2×8, 2 heads, intermediate 32
 * layers: 0 0
 *   unchanged: h.0.*, wpe.weight, wte.weight (14 parameters)
 *   h.1.* = h.0.* (12 parameters); moments = h.0.*, squared scales; step count of h.0.*
 */
export function describeGrowthMap(map: GrowthMap): string {
  const lines = [`${map.expander}: ${formatShape(map.from)} → ${formatShape(map.to)}`];
  if (map.layerMap) lines.push(`layers: ${map.layerMap.join(" ")}`);
  const unchanged = new Set<string>();
  let unchangedCount = 0;
  const groups = new Map<string, number>();
  for (const [name, growth] of Object.entries(map.parameters)) {
    if (isUnchanged(name, growth)) {
      unchanged.add(groupOf(name));
      unchangedCount++;
      continue;
    }
    const line = describeParameter(name, growth);
    groups.set(line, (groups.get(line) ?? 0) + 1);
  }
  if (unchangedCount > 0)
    lines.push(`  unchanged: ${[...unchanged].join(", ")} (${countOf(unchangedCount)})`);
  for (const [line, count] of groups) {
    const [weight, ...rest] = line.split("; ");
    lines.push(`  ${[`${weight} (${countOf(count)})`, ...rest].join("; ")}`);
  }
  return lines.join("\n");
}

function countOf(parameters: number): string {
  return parameters === 1 ? "1 parameter" : `${parameters} parameters`;
}

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

function describeParameter(name: string, growth: ParameterGrowth): string {
  const first = describeSlot(growth.firstMoment);
  const second = describeSlot(growth.secondMoment);
  const moments =
    first === second ? `moments = ${first}` : `first moment = ${first}; second moment = ${second}`;
  return `${groupOf(name)} = ${describeSlot(growth.weight)}; ${moments}; ${describeStepCount(growth.stepCount)}`;
}

function describeSlot(slot: SlotSource): string {
  if (slot.kind === "zeros") return "0";
  if (slot.kind === "initialize")
    return slot.over ? `initialised, over it ${describeTerm(slot.over)}` : "initialised";
  return slot.terms.map(describeTerm).join(" + ");
}

function describeTerm(term: GrowthTerm): string {
  const axes = (term.axes ?? []).map(describeAxis).join(", ");
  const source = /[^-, ]/.test(axes) ? `${groupOf(term.from)}[${axes}]` : groupOf(term.from);
  return term.scale === 1 ? source : `${term.scale} · ${source}`;
}

function describeAxis(axis: AxisMap | null): string {
  if (axis === null) return "-";
  if (axis.kind === "matrix") return `matrix ${axis.rows.length}×${axis.rows[0]?.length ?? 0}`;
  return `${axis.indices.length} by index${axis.scales ? ", scaled" : ""}`;
}

function describeStepCount(stepCount: StepCountSource): string {
  if (stepCount.kind === "zero") return "step count 0";
  return `step count of ${stepCount.names.map(groupOf).join(", ")}`;
}

/** `h.3.attn.c_attn.weight` → `h.3.*`: everything up to the first number in the name is the layer. */
function groupOf(name: string): string {
  const layer = /^(.*?\.?\d+)\./.exec(name);
  return layer ? `${layer[1]}.*` : name;
}
