import { createHash } from "node:crypto";
import { canonicalJson } from "./canonical-json.js";
import type { AxisMap, GrowthMap, GrowthTerm, SlotSource } from "./growth-map.js";
import type { Json } from "./json.js";
import { shapeOf } from "./shape.js";

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
