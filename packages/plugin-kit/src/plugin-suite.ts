import {
  canonicalJson,
  checkShape,
  type JsonObject,
  type Plugin,
  type StrategyDeclaration,
} from "@espalier/core";
import { describe, expect } from "vitest";
import { type Checks, runChecks, type Skips, shapeOfDepth, withoutChanceAndTime } from "./checks.js";
import { createStrategy } from "./create-strategy.js";

/** The checks of {@link describePlugin}. */
export type PluginCheck =
  | "it is declared in full"
  | "the options' defaults are valid"
  | "an unknown option is refused"
  | "every strategy can be made"
  | "presets are the growth section of a definition"
  | "presets give their own strategies valid options";

/** Options of {@link describePlugin}. */
export interface PluginSuiteOptions {
  /** Options of strategies that cannot do without, by `kind name`: `{ "schedule stages": {…} }`. */
  readonly examples?: { readonly [strategy: string]: object };
  /** Checks that do not apply, each with its reason. */
  readonly skip?: Skips<PluginCheck>;
}

/**
 * Conformance suite of a plugin's declaration.
 *
 * @param plugin the default export
 */
export function describePlugin(plugin: Plugin, options: PluginSuiteOptions = {}): void {
  describe(`plugin ${plugin.name}`, () => runChecks(pluginChecks(plugin, options), options.skip));
}

/** The checks that {@link describePlugin} registers, by name: each throws where it fails. */
export function pluginChecks(plugin: Plugin, options: PluginSuiteOptions = {}): Checks<PluginCheck> {
  const example = (declared: StrategyDeclaration): object =>
    options.examples?.[`${declared.kind} ${declared.name}`] ?? {};

  return {
    "it is declared in full": () => {
      expect(plugin.contract).toBe(1);
      expect(plugin.name).not.toBe("");
      expect(plugin.strategies.length + plugin.presets.length).toBeGreaterThan(0);
      for (const { name, description } of [...plugin.strategies, ...plugin.presets]) {
        expect(name).toMatch(/^[a-z0-9][a-z0-9-]*$/);
        expect(description.trim()).not.toBe("");
      }
      const names = plugin.strategies.map(({ kind, name }) => `${kind} ${name}`);
      expect(new Set(names).size).toBe(names.length);
      for (const named of Object.keys(options.examples ?? {})) expect(names).toContain(named);
    },
    "the options' defaults are valid": () => {
      for (const declared of plugin.strategies) {
        const parsed = declared.options.safeParse(example(declared));
        expect(parsed.success, `${declared.kind} ${declared.name}: ${parsed.error?.message}`).toBe(true);
        // What the defaults give is itself accepted, so a lock file can be run again.
        expect(declared.options.safeParse(parsed.data).data).toEqual(parsed.data);
      }
    },
    "an unknown option is refused": () => {
      for (const declared of plugin.strategies) {
        const parsed = declared.options.safeParse({ ...example(declared), "no-such-option": 1 });
        expect(parsed.error?.issues.map((issue) => issue.code)).toContain("unrecognized_keys");
      }
    },
    "every strategy can be made": () => {
      for (const declared of plugin.strategies)
        expect(createStrategy(plugin, declared.kind, declared.name, example(declared))).toBeTruthy();
    },
    "presets are the growth section of a definition": () => {
      for (const { growth, where } of growthSections(plugin)) {
        expect(canonicalJson(JSON.parse(JSON.stringify(growth))), where).toBe(canonicalJson(growth));
        for (const key of Object.keys(growth))
          expect(["schedule", "sampler", "expander", "sharing"], where).toContain(key);
      }
    },
    "presets give their own strategies valid options": () => {
      for (const { growth, where } of growthSections(plugin))
        for (const kind of ["schedule", "sampler", "expander"] as const) {
          const { use, ...given } = section(growth[kind]);
          const own = plugin.strategies.find((declared) => declared.kind === kind && declared.name === use);
          const parsed = own?.options.safeParse(given);
          expect(parsed?.success ?? true, `${where}: ${kind} ${parsed?.error?.message}`).toBe(true);
        }
    },
  };
}

function growthSections(plugin: Plugin): { growth: JsonObject; where: string }[] {
  return plugin.presets.flatMap((preset) =>
    Array.from({ length: 48 }, (_, index) => {
      const target = shapeOfDepth(index + 1);
      checkShape(target);
      return {
        growth: withoutChanceAndTime(() => preset.growth(target)),
        where: `preset ${preset.name} at depth ${target.depth}`,
      };
    }),
  );
}

function section(value: JsonObject[string] | undefined): { readonly [key: string]: unknown } {
  if (typeof value === "string") return { use: value };
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
}
