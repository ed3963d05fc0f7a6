import { type Expander, type MomentPolicy, planLayers } from "@espalier/core";
import { blendedLayers, interpolatedLayers } from "./interpolation.js";

/** Options of the expander `interpolation`. */
export interface InterpolationOptions {
  /** `nearest` copies the layer at floor(i·U/U'); `linear` blends the two neighbours by position. */
  readonly mode: "nearest" | "linear";
  readonly moments: MomentPolicy;
}

/** Depth expansion by interpolation. `nearest` preserves the function where the depths divide. */
export function interpolationExpander({ mode, moments }: InterpolationOptions): Expander {
  return {
    preserves: mode === "nearest" ? "function" : "nothing",
    layerMapping: "interpolation",
    plan(from, to, family) {
      // A shallower target is refused by planLayers; neither map is asked for it before.
      const layerMap = mode === "nearest" ? interpolatedLayers(from.depth, to.depth) : null;
      const blended = mode === "linear" ? blendedLayers(from.depth, to.depth) : null;
      return planLayers({
        expander: "interpolation",
        from,
        to,
        family,
        moments,
        layerMap,
        layerSource: (layer) => blended?.[layer] ?? [[layerMap![layer]!, 1]],
      });
    },
  };
}
