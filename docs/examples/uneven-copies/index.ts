import { type AxisMap, definePlugin, planWidth, strategy, type UnitMaps, widthMoments } from "@espalier/core";
import { z } from "zod";
import { repeated, shares } from "./uneven-copies.js";

// An axis map that is divided by copy counts has scales; one that only copies has none; null stays as it is.
function uneven(map: AxisMap | null): AxisMap | null {
  return map?.kind === "index" && map.scales ? { ...map, scales: shares(map.indices) } : map;
}

export default definePlugin({
  name: "uneven-copies",
  contract: 1,
  strategies: [
    strategy({
      kind: "widthOperator",
      name: "uneven-copies",
      description: "copies of a feed-forward unit share what they feed unevenly",
      options: z.strictObject({ moments: z.enum(widthMoments).default("gradient") }),
      needs: [],
      create: ({ moments }) => ({
        preserves: "function",
        plan(from, to, family) {
          const units: UnitMaps = {
            hidden: repeated(from.hiddenSize, to.hiddenSize),
            heads: () => repeated(from.attentionHeads, to.attentionHeads),
            intermediate: () => repeated(from.intermediateSize, to.intermediateSize),
          };
          return planWidth({
            ...{ expander: "uneven-copies", from, to, family, moments, units },
            source(place, axes, use) {
              const maps = axes(place, use).map((map, axis) =>
                place.axes[axis] === "intermediate" ? uneven(map) : map,
              );
              return { kind: "sum", terms: [{ from: place.name, scale: 1, axes: maps }] };
            },
          });
        },
      }),
    }),
  ],
});
