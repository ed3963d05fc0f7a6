import {
  type Expander,
  type GrowthMap,
  type ModelShape,
  type MomentPolicy,
  planLayers,
  planWidthAndDepth,
  type WidthOperator,
} from "@espalier/core";
import { blendedLayers, interpolatedLayers } from "./interpolation.js";

/** Options of the expander `interpolation`. */
export interface InterpolationOptions {
  /** `nearest` copies the layer at floor(i·U/U'); `linear` blends the two neighbours by position. */
  readonly mode: "nearest" | "linear";
  readonly moments: MomentPolicy;
  /** What a growth in width is made by, before the one in depth; null or none for depth alone. */
  readonly width?: WidthOperator | null;
  /** What happens to moments in that growth in width; null or none for the operator's own. */
  readonly widthMoments?: MomentPolicy | null;
}

/** Depth expansion by interpolation. `nearest` preserves the function where the depths divide. */
export function interpolationExpander({
  mode,
  moments,
  width = null,
  widthMoments = null,
}: InterpolationOptions): Expander {
  return {
    preserves: mode === "nearest" && width?.preserves !== "nothing" ? "function" : "nothing",
    layerMapping: "interpolation",
    plan(from, to, family, random) {
      // A shallower target is refused by planLayers; neither map is asked for it before.
      const layerMap = mode === "nearest" ? interpolatedLayers(from.depth, to.depth) : null;
      const blended = mode === "linear" ? blendedLayers(from.depth, to.depth) : null;
      const depth = (source: ModelShape): GrowthMap =>
        planLayers({
          expander: "interpolation",
          from: source,
          to,
          family,
          moments,
          layerMap,
          layerSource: (layer) => blended?.[layer] ?? [[layerMap![layer]!, 1]],
        });
      return planWidthAndDepth({ width, widthMoments, from, to, family, random, depth });
    },
  };
}
