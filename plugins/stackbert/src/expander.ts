import {
  type Expander,
  type GrowthMap,
  type ModelShape,
  type MomentPolicy,
  type ParameterGrowth,
  planLayers,
  planWidthAndDepth,
  type WidthOperator,
} from "@espalier/core";
import { stackedLayers } from "./stacking.js";

/** The policies of core, and `reset-all`: every parameter starts with empty moments, as the released code does. */
export type StackingMoments = MomentPolicy | "reset-all";

/** Depth expansion by stacking. Changes the function. */
export function stackingExpander({
  moments,
  width = null,
  widthMoments = null,
}: {
  readonly moments: StackingMoments;
  /** What a growth in width is made by, before the one in depth; null or none for depth alone. */
  readonly width?: WidthOperator | null;
  /** What happens to moments in that growth in width; null or none for the operator's own. */
  readonly widthMoments?: MomentPolicy | null;
}): Expander {
  return {
    preserves: "nothing",
    layerMapping: "stacking",
    plan(from, to, family, random) {
      const layerMap = stackedLayers(from.depth, to.depth);
      const depth = (source: ModelShape): GrowthMap =>
        planLayers({
          expander: "stacking",
          from: source,
          to,
          family,
          moments: moments === "reset-all" ? "reset" : moments,
          layerMap,
          layerSource: (layer) => [[layerMap[layer]!, 1]],
        });
      const map = planWidthAndDepth({ width, widthMoments, from, to, family, random, depth });
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
