import {
  EspalierError,
  type ModelFamily,
  type Plugin,
  type Services,
  type StrategyDeclaration,
  type StrategyKind,
  type StrategyKinds,
  unknownName,
} from "@espalier/core";
import { shapeOfDepth } from "./checks.js";
import { residualFamily } from "./residual-family.js";

/** What a strategy gets in a test where the test gives nothing else. */
export function testServices(family: ModelFamily = residualFamily): Services {
  return {
    target: shapeOfDepth(12),
    family,
    budget: { unit: "steps", amount: 200, steps: 200 },
    tokenizer: { vocabSize: 11, maskToken: 1, padToken: 0, endOfText: null, specialTokens: [0, 1] },
    baseDirectory: ".",
    source: shapeOfDepth(6),
    widthOperator: (reference) => {
      const name = typeof reference === "string" ? reference : reference.use;
      throw unknownName("ESPALIER_STRATEGY_UNKNOWN", "width operator", name, []);
    },
  };
}

/**
 * Makes a strategy of a plugin as a run would: options validated and completed with their defaults, only the services
 * that it named.
 *
 * @throws EspalierError if the plugin has no such strategy, or the options are refused
 */
export function createStrategy<Kind extends StrategyKind>(
  plugin: Plugin,
  kind: Kind,
  name: string,
  options: object = {},
  services: Partial<Services> = {},
): StrategyKinds[Kind] {
  const ofKind = plugin.strategies.filter(
    (declared): declared is StrategyDeclaration<Kind> => declared.kind === kind,
  );
  const declaration = ofKind.find((declared) => declared.name === name);
  if (!declaration)
    throw unknownName(
      "ESPALIER_PLUGIN_STRATEGY",
      kind,
      name,
      ofKind.map((declared) => declared.name),
    );
  const parsed = declaration.options.safeParse(options);
  if (!parsed.success)
    throw new EspalierError("ESPALIER_PLUGIN_OPTIONS", `${kind} "${name}": ${parsed.error.message}`);
  const available = { ...testServices(), ...services };
  const needed = Object.fromEntries(declaration.needs.map((need) => [need, available[need]]));
  return declaration.create(parsed.data, needed);
}
