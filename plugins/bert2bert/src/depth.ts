import {
  type Expander,
  type GrowthMap,
  type ModelShape,
  type MomentPolicy,
  planLayers,
  planWidthAndDepth,
  type WidthMoments,
  type WidthOperator,
} from "@espalier/core";

/**
 * Depth by stacking after widening (bert2BERT, section 3.4): whole copies of the widened layers, ⌊L^t / L^s⌋ times, and the
 * layers that are left over from the top.
 */
export function stackedFromBottom(uniqueLayers: number, targetLayers: number): number[] {
  const remainder = targetLayers % uniqueLayers;
  const whole = targetLayers - remainder;
  return Array.from({ length: targetLayers }, (_, layer) =>
    layer < whole ? layer % uniqueLayers : uniqueLayers - remainder + (layer - whole),
  );
}

/** The layers from the bottom up to the executed depth: the paper's sub-models; stacked where more run than there are. */
export function bottomLayers(uniqueLayers: number, executedDepth: number): number[] {
  return executedDepth <= uniqueLayers
    ? Array.from({ length: executedDepth }, (_, layer) => layer)
    : stackedFromBottom(uniqueLayers, executedDepth);
}

/** An expander that grows in width by an operator, then in depth by stacking, as one growth map. */
export function widenedAndStacked(name: string, width: WidthOperator, moments: WidthMoments): Expander {
  // What has no width to grow in has its gradients where its weights are.
  const ofLayers: MomentPolicy = moments === "gradient" ? "carry" : moments;
  return {
    preserves: width.preserves,
    layerMapping: "bottom",
    plan(from, to, family, random) {
      const layerMap = stackedFromBottom(from.depth, to.depth);
      const depth = (source: ModelShape): GrowthMap =>
        planLayers({
          expander: name,
          from: source,
          to,
          family,
          moments: ofLayers,
          layerMap,
          layerSource: (layer) => [[layerMap[layer]!, 1]],
        });
      return { ...planWidthAndDepth({ width, from, to, family, random, depth }), expander: name };
    },
  };
}
