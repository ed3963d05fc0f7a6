import { checkLayerMap, type LayerMapping, stream } from "@espalier/core";
import { describe, expect } from "vitest";
import { type Checks, runChecks, type Skips, withoutChanceAndTime } from "./checks.js";

/** The checks of {@link describeLayerMapping}. */
export type LayerMappingCheck =
  | "every executed layer names a unique layer"
  | "every unique layer is executed"
  | "all layers run once, in order, at their own depth"
  | "nothing but the input counts";

/** Options of {@link describeLayerMapping}. */
export interface LayerMappingSuiteOptions {
  /** Checks that do not apply, each with its reason. */
  readonly skip?: Skips<LayerMappingCheck>;
}

/**
 * Conformance suite of layer mappings, over every number of unique layers and executed depth up to 24.
 *
 * @param create makes a fresh mapping
 */
export function describeLayerMapping(
  name: string,
  create: () => LayerMapping,
  options: LayerMappingSuiteOptions = {},
): void {
  describe(`layer mapping ${name}`, () => runChecks(layerMappingChecks(create), options.skip));
}

/** The checks that {@link describeLayerMapping} registers, by name: each throws where it fails. */
export function layerMappingChecks(create: () => LayerMapping): Checks<LayerMappingCheck> {
  const pairs = Array.from({ length: 24 }, (_, index) => index + 1).flatMap((unique) =>
    Array.from({ length: 25 - unique }, (_, more) => [unique, unique + more] as const),
  );
  const all = (mapping: LayerMapping) =>
    pairs.map(([unique, depth]) => mapping(unique, depth, stream(3).fork(unique).fork(depth)));

  return {
    "every executed layer names a unique layer": () => {
      for (const [index, map] of all(create()).entries()) {
        const [unique, depth] = pairs[index]!;
        expect(map).toHaveLength(depth);
        checkLayerMap(map, unique);
      }
    },
    "every unique layer is executed": () => {
      for (const [index, map] of all(create()).entries()) expect(new Set(map).size).toBe(pairs[index]![0]);
    },
    "all layers run once, in order, at their own depth": () => {
      const mapping = create();
      for (let depth = 1; depth <= 24; depth++)
        expect([...mapping(depth, depth, stream(3))]).toEqual(Array.from({ length: depth }, (_, i) => i));
    },
    "nothing but the input counts": () => {
      const mapping = create();
      expect(withoutChanceAndTime(() => all(mapping))).toEqual(all(create()));
    },
  };
}
