import type { StrategyDeclaration } from "@espalier/core";
import { kindNames, type LoadedPlugin, type PluginRegistry } from "@espalier/experiments";
import { z } from "zod";

/** Every plugin with its strategies, their options and presets, as text. */
export function describePlugins(registry: PluginRegistry): string {
  return registry.plugins().map(describePlugin).join("\n\n");
}

function describePlugin({ plugin, version, origin }: LoadedPlugin): string {
  const lines = [`${plugin.name} ${version} (${origin})`];
  for (const strategy of plugin.strategies) {
    lines.push(`  ${kindNames[strategy.kind]} ${strategy.name}: ${strategy.description}`);
    for (const option of optionsOf(strategy)) lines.push(`      ${describeOption(option)}`);
  }
  for (const preset of plugin.presets) lines.push(`  preset ${preset.name}: ${preset.description}`);
  return lines.join("\n");
}

/** The same for programs; options as JSON Schema. */
export function pluginsJson(registry: PluginRegistry): object {
  return {
    plugins: registry.plugins().map(({ plugin, version, origin, source }) => ({
      name: plugin.name,
      version,
      contract: plugin.contract,
      origin,
      source,
      strategies: plugin.strategies.map((strategy) => ({
        kind: strategy.kind,
        name: strategy.name,
        description: strategy.description,
        options: optionSchema(strategy),
      })),
      presets: plugin.presets.map(({ name, description }) => ({ name, description })),
    })),
  };
}

interface Option {
  readonly name: string;
  readonly required: boolean;
  readonly default?: unknown;
  readonly description?: string;
  readonly type: string;
}

function optionSchema(strategy: StrategyDeclaration): z.core.JSONSchema.BaseSchema {
  return z.toJSONSchema(strategy.options, { io: "input", unrepresentable: "any" });
}

function optionsOf(strategy: StrategyDeclaration): Option[] {
  const schema = optionSchema(strategy);
  return Object.entries(schema.properties ?? {}).map(([name, property]) => {
    if (typeof property === "boolean") return { name, required: false, type: "anything" };
    return {
      name,
      required: schema.required?.includes(name) === true && property.default === undefined,
      type: property.enum ? property.enum.join(" | ") : String(property.type ?? "one of several forms"),
      ...(property.default === undefined ? {} : { default: property.default }),
      ...(property.description === undefined ? {} : { description: property.description }),
    };
  });
}

function describeOption(option: Option): string {
  const preset =
    option.default === undefined
      ? option.required
        ? ", required"
        : ""
      : `, default ${JSON.stringify(option.default)}`;
  return `${option.name} (${option.type}${preset})${option.description ? `: ${option.description}` : ""}`;
}
