import type { ModelShape } from "@espalier/core";
import { EspalierError } from "@espalier/core";
import type { PluginRegistry } from "./registry.js";
import { type Definition, growthSchema } from "./schema.js";
import { type Locate, schemaError } from "./schema-errors.js";
import {
  chooseStrategy,
  overrideReference,
  type Reference,
  type StrategyChoice,
  splitReference,
  withPlace,
} from "./strategy-choice.js";

/** What holds without a preset and without a key: target depth throughout, every unique layer in every step. */
const withoutPreset = { schedule: "scratch", sampler: "unique", expander: "interpolation" } as const;

/** The chosen strategies of growth. `sharing` is null where the expander's own mapping holds. */
export interface GrowthChoices {
  readonly schedule: StrategyChoice<"schedule">;
  readonly sampler: StrategyChoice<"sampler">;
  readonly expander: StrategyChoice<"expander">;
  readonly sharing: StrategyChoice<"layerMapping"> | null;
}

/**
 * The growth section: the preset's strategies for the target shape, under the definition's explicit keys.
 *
 * @throws UsageError for unknown names and wrong options, with their keys
 */
export function chooseGrowth(
  growth: Definition["growth"],
  target: ModelShape,
  registry: PluginRegistry,
  locate: Locate,
): GrowthChoices {
  const preset = growth.preset === undefined ? {} : presetGrowth(growth.preset, target, registry, locate);
  const inherited = (key: "schedule" | "sampler" | "expander"): Reference =>
    splitReference(preset[key] ?? withoutPreset[key]);
  const sharing =
    growth.sharing === undefined && preset.sharing === undefined
      ? null
      : overrideReference(
          growth.sharing,
          preset.sharing === undefined ? { use: undefined, options: {} } : splitReference(preset.sharing),
        );
  return {
    schedule: chooseStrategy(
      registry,
      "schedule",
      overrideReference(growth.schedule, inherited("schedule")),
      "growth.schedule",
      locate,
    ),
    sampler: chooseStrategy(
      registry,
      "sampler",
      overrideReference(growth.sampler, inherited("sampler")),
      "growth.sampler",
      locate,
    ),
    expander: chooseStrategy(
      registry,
      "expander",
      overrideReference(growth.expander, inherited("expander")),
      "growth.expander",
      locate,
    ),
    sharing: sharing && chooseStrategy(registry, "layerMapping", sharing, "growth.sharing", locate),
  };
}

function presetGrowth(
  name: string,
  target: ModelShape,
  registry: PluginRegistry,
  locate: Locate,
): Definition["growth"] {
  const key = "growth.preset";
  const { preset, from } = registry.preset(name, { file: locate(key.split(".")), key });
  const section = withPlace(key, locate, () => preset.growth(target));
  const parsed = growthSchema.omit({ preset: true }).safeParse(section);
  if (parsed.success) return parsed.data;
  const fault = schemaError(growthSchema, section, parsed.error.issues, () => undefined);
  throw new EspalierError(
    "ESPALIER_PRESET_INVALID",
    `the preset "${name}" of the plugin "${from.source}" is broken: ${fault.message}`,
  );
}
