import { EspalierError } from "./errors.js";
import type { RandomStream } from "./random-stream.js";

/**
 * Which unique layer each executed layer uses: `[0,0,1,1,2,2]` interpolates 3 → 6, `[0,1,2,0,1,2]` stacks. The same
 * object drives weight sharing within a step and depth expansion at a boundary.
 */
export type LayerMap = readonly number[];

/** The rule that makes a layer map. Random only where the method is (layer dropping). */
export type LayerMapping = (uniqueLayers: number, executedDepth: number, random: RandomStream) => LayerMap;

/** Every layer once, in order. */
export function identityLayerMap(depth: number): LayerMap {
  return Array.from({ length: depth }, (_, layer) => layer);
}

/**
 * Refuses a map that names a layer that is not there.
 *
 * @throws EspalierError ESPALIER_LAYER_MAP_INVALID
 */
export function checkLayerMap(map: LayerMap, uniqueLayers: number): void {
  if (map.length === 0)
    throw new EspalierError("ESPALIER_LAYER_MAP_INVALID", "a layer map needs at least one layer");
  for (const [position, layer] of map.entries())
    if (!Number.isSafeInteger(layer) || layer < 0 || layer >= uniqueLayers)
      throw new EspalierError(
        "ESPALIER_LAYER_MAP_INVALID",
        `layer map [${map.join(",")}] names layer ${layer} at position ${position}, but there are ${uniqueLayers} unique layers (0..${uniqueLayers - 1})`,
      );
}
