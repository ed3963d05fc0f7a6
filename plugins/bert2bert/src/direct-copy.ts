import {
  type AxisMap,
  copied,
  type ModelShape,
  newEntries,
  planWidth,
  type WidthOperator,
} from "@espalier/core";
import { unitMaps } from "./unit-selection.js";

/**
 * The paper's baseline: the source's parameters are the first rows and columns of the target's, and everything else is
 * initialised anew. Changes the function. Nothing of the optimizer is kept where a parameter changes its size.
 */
export function directCopy(): WidthOperator {
  return {
    preserves: "nothing",
    plan(from, to, family, random) {
      return planWidth({
        expander: "direct-copy",
        from,
        to,
        family,
        moments: "reset",
        units: unitMaps(from, to, "balanced", random),
        source(place, axes, use) {
          const maps = place.axes.map((role) => corner(newEntries(role, from, to), lengthOf(role, from)));
          if (maps.every((map) => map === null)) return copied(place, axes, use);
          return { kind: "initialize", over: { from: place.name, scale: 1, axes: maps } };
        },
      });
    },
  };
}

// Entries that are there already, block by block: GPT-2's `qkv` axis has three blocks that grow each.
function corner(isNew: readonly boolean[] | null, sourceLength: number): AxisMap | null {
  if (!isNew) return null;
  let source = 0;
  const indices = isNew.map((added) => (added ? 0 : source++));
  if (source !== sourceLength) throw new Error("an axis grows by other entries than its new ones");
  return { kind: "index", indices, scales: isNew.map((added) => (added ? 0 : 1)) };
}

function lengthOf(role: string, shape: ModelShape): number {
  if (role === "intermediate") return shape.intermediateSize;
  return role === "qkv" ? 3 * shape.hiddenSize : shape.hiddenSize;
}
