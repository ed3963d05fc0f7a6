import { checkWidth, type ModelShape, type RandomStream, type UnitMaps } from "@espalier/core";

/**
 * How the copies are chosen. `uniform`: each new unit is a copy of a source unit drawn uniformly (the paper's).
 * `balanced`: every source unit is copied ⌊t/s⌋ or ⌈t/s⌉ times, which of them more often is drawn.
 */
export type Selection = "balanced" | "uniform";

/** The ways, for option schemas. */
export const selections = ["balanced", "uniform"] as const satisfies readonly Selection[];

/**
 * From which source unit each target unit is copied: the identity on the source's units, then copies.
 *
 * @returns `[target]` of 0..source−1
 */
export function selectUnits(
  source: number,
  target: number,
  selection: Selection,
  random: RandomStream,
): number[] {
  const remainder = target % source;
  const chosen = random.permutation(source).subarray(0, remainder);
  return Array.from({ length: target }, (_, unit) => {
    if (unit < source) return unit;
    if (selection === "uniform") return random.integer(source, unit);
    return unit < target - remainder ? unit % source : chosen[unit - (target - remainder)]!;
  });
}

/**
 * The unit maps of a growth, each drawn from a stream of its own: channels once for the whole model, heads and
 * feed-forward units for each layer.
 *
 * @throws UsageError for a growth that cannot be (core's `checkWidth`)
 */
export function unitMaps(
  from: ModelShape,
  to: ModelShape,
  selection: Selection,
  random: RandomStream,
): UnitMaps {
  checkWidth(from, to);
  const perLayer = (label: string, source: number, target: number) => (layer: number) =>
    selectUnits(source, target, selection, random.fork(label).fork(layer));
  return {
    hidden: selectUnits(from.hiddenSize, to.hiddenSize, selection, random.fork("hidden")),
    heads: perLayer("heads", from.attentionHeads, to.attentionHeads),
    intermediate: perLayer("intermediate", from.intermediateSize, to.intermediateSize),
  };
}
