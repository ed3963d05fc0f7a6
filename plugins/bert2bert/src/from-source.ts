import { type GrowthSchedule, type ModelShape, sameShape, shapeOf, UsageError } from "@espalier/core";

/**
 * The target shape from the first step on, grown from a trained source before it: all growth of bert2BERT takes place
 * there.
 *
 * @throws UsageError ESPALIER_SOURCE_MISSING if the run has no source to grow from
 */
export function fromSource(source: ModelShape | null): GrowthSchedule {
  if (source === null)
    throw new UsageError(
      "ESPALIER_SOURCE_MISSING",
      "growth from a source needs a trained model to grow from, but the definition has none",
      {
        key: "start",
        hint: "set start: to a run folder, a Hugging Face folder, or a definition that is trained first",
      },
    );
  return {
    init: () => null,
    initial: shapeOf,
    plan: (_budget, target) => [{ index: 0, shape: shapeOf(target), at: 0, firstStep: 0 }],
    next: (memory, { current, target }) => [sameShape(current, target) ? null : shapeOf(target), memory],
  };
}
