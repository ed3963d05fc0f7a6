import {
  type Expander,
  type GrowthMap,
  type MomentPolicy,
  type ParameterGrowth,
  planLayers,
} from "@espalier/core";
import { stackedLayers } from "./stacking.js";

/** The policies of core, and `reset-all`: every parameter starts with empty moments, as the released code does. */
export type StackingMoments = MomentPolicy | "reset-all";

/** Depth expansion by stacking. Changes the function. */
export function stackingExpander({ moments }: { readonly moments: StackingMoments }): Expander {
  return {
    preserves: "nothing",
    layerMapping: "stacking",
    plan(from, to, family) {
      const layerMap = stackedLayers(from.depth, to.depth);
      const map = planLayers({
        expander: "stacking",
        from,
        to,
        family,
        moments: moments === "reset-all" ? "reset" : moments,
        layerMap,
        layerSource: (layer) => [[layerMap[layer]!, 1]],
      });
      return moments === "reset-all" ? withoutMoments(map) : map;
    },
  };
}

function withoutMoments(map: GrowthMap): GrowthMap {
  const parameters: { [name: string]: ParameterGrowth } = {};
  for (const [name, { weight }] of Object.entries(map.parameters))
    parameters[name] = {
      weight,
      firstMoment: { kind: "zeros" },
      secondMoment: { kind: "zeros" },
      stepCount: { kind: "zero" },
    };
  return { ...map, parameters };
}
