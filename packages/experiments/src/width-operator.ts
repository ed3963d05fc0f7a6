import type { Services } from "@espalier/core";
import type { PluginRegistry } from "./registry.js";
import type { Locate } from "./schema-errors.js";
import { chooseStrategy, createStrategy, splitReference } from "./strategy-choice.js";

/**
 * The service `widthOperator`: makes a registered width operator by name, so that a depth operator of one plugin goes with
 * a width operator of another.
 */
export function widthOperators(registry: PluginRegistry, locate: Locate): Services["widthOperator"] {
  return (reference) => {
    const choice = chooseStrategy(
      registry,
      "widthOperator",
      splitReference(reference),
      "growth.expander.width",
      locate,
    );
    return createStrategy(choice, {}, locate);
  };
}
