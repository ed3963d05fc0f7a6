import { describe, expect, it } from "vitest";
import { EspalierError } from "./errors.js";
import { checkLayerMap, identityLayerMap } from "./layer-map.js";

describe("layer maps", () => {
  it("run every layer once by default", () => {
    expect(identityLayerMap(4)).toEqual([0, 1, 2, 3]);
    expect(identityLayerMap(0)).toEqual([]);
  });

  it("may repeat, skip and reorder layers", () => {
    for (const map of [[0], [2, 2, 0], [0, 1, 2, 0, 1, 2]]) expect(() => checkLayerMap(map, 3)).not.toThrow();
  });

  it.each([
    [[], "at least one layer"],
    [[0, 3], "names layer 3 at position 1, but there are 3 unique layers (0..2)"],
    [[-1], "names layer -1"],
    [[0.5], "names layer 0.5"],
    [[Number.NaN], "names layer NaN"],
  ])("refuse %j", (map, reason) => {
    expect(() => checkLayerMap(map, 3)).toThrow(EspalierError);
    expect(() => checkLayerMap(map, 3)).toThrow(reason);
  });
});
