import { EspalierError, UsageError } from "./errors.js";
import { copyOf, type GrowthMap, type MomentPolicy, type SlotSource, withMoments } from "./growth-map.js";
import { checkLayerMap, type LayerMap } from "./layer-map.js";
import type { ModelFamily } from "./model-family.js";
import { formatShape, type ModelShape } from "./shape.js";

/**
 * The growth map of a depth operator: target layer i is made as `layerSource` says, everything outside of the layers is
 * kept. Expanders that copy or blend whole layers are one call of this.
 *
 * @throws UsageError ESPALIER_GROWTH_WIDTH if another axis than depth changes, ESPALIER_GROWTH_SHRINKS if depth falls
 * @throws EspalierError ESPALIER_GROWTH_MAP_INVALID, ESPALIER_LAYER_MAP_INVALID if a source layer is not there
 */
export function planLayers(options: {
  readonly expander: string;
  readonly from: ModelShape;
  readonly to: ModelShape;
  readonly family: Pick<ModelFamily, "layout" | "layerParameter">;
  readonly moments: MomentPolicy;
  readonly layerMap: LayerMap | null;
  /** The source of a target layer, as weights over source layers: `[[2, 1]]` copies layer 2. */
  readonly layerSource: (targetLayer: number) => readonly (readonly [layer: number, weight: number])[];
}): GrowthMap {
  const { expander, from, to, family, moments, layerMap, layerSource } = options;
  for (const axis of ["hiddenSize", "attentionHeads", "intermediateSize"] as const)
    if (from[axis] !== to[axis])
      throw new UsageError(
        "ESPALIER_GROWTH_WIDTH",
        `expander "${expander}" grows depth only, but ${axis} changes from ${from[axis]} to ${to[axis]}`,
        {
          key: axis,
          hint: "combine it with a width operator: expander: { use: interpolation, width: fpi }, or --using interpolation width=fpi",
        },
      );
  if (to.depth < from.depth)
    throw new UsageError(
      "ESPALIER_GROWTH_SHRINKS",
      `a model cannot grow from ${formatShape(from)} to the shallower ${formatShape(to)}`,
      { key: "depth" },
    );
  if (layerMap) {
    checkLayerMap(layerMap, from.depth);
    if (layerMap.length !== to.depth)
      throw new EspalierError(
        "ESPALIER_LAYER_MAP_INVALID",
        `expander "${expander}" gives a layer map of ${layerMap.length} layers for a depth of ${to.depth}`,
      );
  }
  const sources = Array.from({ length: to.depth }, (_, layer) =>
    mergedSources(layerSource(layer), layer, from.depth, expander),
  );
  const weights: { [name: string]: SlotSource } = {};
  const places = family.layout(to.depth);
  for (const place of places) {
    if (place.layer === null) {
      weights[place.name] = copyOf(place.name);
      continue;
    }
    weights[place.name] = {
      kind: "sum",
      terms: sources[place.layer]!.map(([layer, weight]) => ({
        from: family.layerParameter(layer, place.suffix),
        scale: weight,
      })),
    };
  }
  const sourceNames = new Set(family.layout(from.depth).map((place) => place.name));
  return { expander, from, to, layerMap, parameters: withMoments(weights, moments, sourceNames, places) };
}

// A layer named twice is one term with the summed weight: its second moment scales with the square of the sum.
function mergedSources(
  source: readonly (readonly [layer: number, weight: number])[],
  targetLayer: number,
  sourceDepth: number,
  expander: string,
): (readonly [layer: number, weight: number])[] {
  const refuse = (reason: string): never => {
    throw new EspalierError(
      "ESPALIER_GROWTH_MAP_INVALID",
      `expander "${expander}" makes layer ${targetLayer} ${reason}`,
    );
  };
  const merged = new Map<number, number>();
  for (const [layer, weight] of source) {
    if (!Number.isSafeInteger(layer) || layer < 0 || layer >= sourceDepth)
      refuse(`from layer ${layer}, but there are ${sourceDepth} source layers (0..${sourceDepth - 1})`);
    if (!Number.isFinite(weight)) refuse(`from layer ${layer} with the weight ${weight}`);
    merged.set(layer, (merged.get(layer) ?? 0) + weight);
  }
  if (merged.size === 0) refuse("from no source layer");
  const contributing = [...merged].filter(([, weight]) => weight !== 0);
  return contributing.length > 0 ? contributing : [...merged];
}
