import { checkLayerMap, EspalierError, identityLayerMap, type LayerMap, UsageError } from "@espalier/core";

/** `0,0,1,1`; every layer once where nothing is given. */
export function parseLayerMap(text: string | undefined, depth: number): LayerMap {
  if (text === undefined) return identityLayerMap(depth);
  const pieces = text.split(",").map((piece) => piece.trim());
  const wrong = pieces.find((piece) => !/^\d+$/.test(piece));
  if (wrong !== undefined)
    throw new UsageError(
      "ESPALIER_LAYER_MAP_INVALID",
      `--layer-map ${text}: expected whole numbers with commas between them, given "${wrong}"`,
      { hint: "for example 0,0,1,1" },
    );
  const map = pieces.map(Number);
  try {
    checkLayerMap(map, depth);
  } catch (error) {
    if (!(error instanceof EspalierError)) throw error;
    throw new UsageError(error.code, `--layer-map ${text}: ${error.message}`, {
      hint: "for example 0,0,1,1",
    });
  }
  return map;
}
