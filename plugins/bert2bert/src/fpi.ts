import { planWidth, type WidthMoments, type WidthOperator } from "@espalier/core";
import { type Selection, unitMaps } from "./unit-selection.js";

/** Options of the width operator `fpi`. */
export interface FpiOptions {
  readonly selection: Selection;
  readonly moments: WidthMoments;
}

/**
 * Function-preserving initialisation (bert2BERT, section 3.2): every new unit is a copy of a source unit, and what it feeds
 * is divided by the number of copies, `U[i, j] = W[g_in(i), g_out(j)] / C_{g_in(i)}` with rows as inputs. The function is
 * preserved where every unit is copied equally often; otherwise layer norm sees another mean and variance.
 */
export function fpi({ selection, moments }: FpiOptions): WidthOperator {
  return {
    preserves: selection === "balanced" ? "function" : "nothing",
    plan: (from, to, family, random) =>
      planWidth({ expander: "fpi", from, to, family, moments, units: unitMaps(from, to, selection, random) }),
  };
}
