import {
  type AxesOf,
  type AxisMap,
  type AxisUse,
  copied,
  type ModelFamily,
  type ModelShape,
  newEntries,
  type ParameterPlace,
  planWidth,
  type SlotSource,
  type WidthMoments,
  type WidthOperator,
} from "@espalier/core";
import { type Selection, unitMaps } from "./unit-selection.js";

/** Options of the width operator `aki`. */
export interface AkiOptions {
  readonly selection: Selection;
  readonly moments: WidthMoments;
}

/**
 * Advanced knowledge initialisation (bert2BERT, section 3.3): the outputs that a matrix has already come from its own
 * layer, the new ones from the next layer, both widened by FPI: `U^l[:, j] = Ũ^l[:, j]` for j ≤ d, else `Ũ^{l+1}[:, j]`.
 * Biases go with their outputs. Embeddings, layer norms, the head and the top layer, which has no next, are FPI's.
 * Changes the function, and breaks the symmetry of the copies.
 */
export function aki({ selection, moments }: AkiOptions): WidthOperator {
  return {
    preserves: "nothing",
    plan: (from, to, family, random) =>
      planWidth({
        expander: "aki",
        from,
        to,
        family,
        moments,
        units: unitMaps(from, to, selection, random),
        source: advancedKnowledge(from, to, family),
      }),
  };
}

/** How AKI makes a parameter: from its own layer and the next. */
export function advancedKnowledge(
  from: ModelShape,
  to: ModelShape,
  family: Pick<ModelFamily, "layout">,
): (place: ParameterPlace, axes: AxesOf, use: AxisUse) => SlotSource {
  const places = family.layout(from.depth);
  const inLayer = new Map(places.map((place) => [`${place.layer} ${place.suffix}`, place]));
  const matrices = places.filter((place) => place.inputAxis !== null).map((place) => place.suffix);
  const masked = new Map<AxisMap, readonly [old: AxisMap, added: AxisMap]>();
  return (place, axes, use) => {
    const next = place.layer === null ? undefined : inLayer.get(`${place.layer + 1} ${place.suffix}`);
    const output = place.axes.findIndex((_, axis) => axis !== place.inputAxis);
    const isNew = newEntries(place.axes[output]!, from, to);
    // A bias belongs to the matrix that it is added to; a layer norm belongs to none.
    const belongs = place.inputAxis !== null || matrices.includes(place.suffix.replace(/bias$/, "weight"));
    if (!next || !isNew || !belongs) return copied(place, axes, use);
    const term = (source: ParameterPlace, part: 0 | 1) => {
      const maps = [...axes(source, use)];
      maps[output] = masks(maps[output]!, isNew)[part];
      return { from: source.name, scale: 1, axes: maps };
    };
    return { kind: "sum", terms: [term(place, 0), term(next, 1)] };
  };

  function masks(map: AxisMap, isNew: readonly boolean[]): readonly [AxisMap, AxisMap] {
    const known = masked.get(map);
    if (known) return known;
    if (map.kind !== "index") throw new Error("the units of AKI are index maps");
    const { indices, scales } = map;
    const only = (wanted: boolean): AxisMap => ({
      kind: "index",
      indices,
      scales: isNew.map((added, entry) => (added === wanted ? (scales?.[entry] ?? 1) : 0)),
    });
    const pair = [only(false), only(true)] as const;
    masked.set(map, pair);
    return pair;
  }
}
