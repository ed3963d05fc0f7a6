import {
  EspalierError,
  type Plugin,
  type Preset,
  type StrategyDeclaration,
  type StrategyKind,
  unknownName,
} from "@espalier/core";
import { findDependencies, type LoadedPlugin, loadPlugin } from "./find-plugins.js";

/** What a kind of strategy is called in messages. */
export const kindNames: { readonly [Kind in StrategyKind]: string } = {
  sampler: "depth sampler",
  schedule: "growth schedule",
  expander: "expander",
  widthOperator: "width operator",
  layerMapping: "layer mapping",
  learningRate: "learning-rate schedule",
  optimizer: "optimizer",
  objective: "objective",
  corpus: "corpus",
  family: "model family",
};

/** A strategy, with the plugin that brings it. */
export interface RegisteredStrategy<Kind extends StrategyKind = StrategyKind> {
  readonly declaration: StrategyDeclaration<Kind>;
  readonly from: LoadedPlugin;
}

/** Where plugins are looked for. */
export interface PluginSearch {
  /** Given by the composition root. */
  readonly builtIn: readonly { readonly plugin: Plugin; readonly version: string }[];
  /** Folders whose package.json, and those above, are searched for dependencies. */
  readonly folders: readonly string[];
  /** A definition's `plugins:` list, and the file that it stands in. */
  readonly named?: { readonly sources: readonly string[]; readonly file: string };
}

/** Every strategy and preset that a definition may name. */
export class PluginRegistry {
  readonly #strategies = new Map<string, RegisteredStrategy>();
  readonly #presets = new Map<string, { readonly preset: Preset; readonly from: LoadedPlugin }>();
  readonly #plugins: LoadedPlugin[] = [];

  /**
   * Finds and loads plugins.
   *
   * @throws EspalierError that names the plugin which is missing, fails to load, has another contract, or brings a name
   * that is taken
   */
  static async load(search: PluginSearch): Promise<PluginRegistry> {
    const registry = new PluginRegistry();
    for (const { plugin, version } of search.builtIn)
      registry.add({ plugin, version, origin: "built in", source: plugin.name });
    const named = search.named?.sources ?? [];
    for (const source of named) registry.add(await loadPlugin(source, search.named!.file, "definition"));
    for (const [name, manifest] of await findDependencies(search.folders))
      if (!named.includes(name)) registry.add(await loadPlugin(name, manifest, "dependency"));
    return registry;
  }

  /** Adds a plugin. One that is there already (the same object) is not added twice. */
  add(loaded: LoadedPlugin): void {
    if (this.#plugins.some((other) => other.plugin === loaded.plugin)) return;
    for (const declaration of loaded.plugin.strategies) {
      const key = `${declaration.kind}/${declaration.name}`;
      this.#refuseDuplicate(
        loaded,
        this.#strategies.get(key)?.from,
        `${kindNames[declaration.kind]} "${declaration.name}"`,
      );
      this.#strategies.set(key, { declaration, from: loaded });
    }
    for (const preset of loaded.plugin.presets) {
      this.#refuseDuplicate(loaded, this.#presets.get(preset.name)?.from, `preset "${preset.name}"`);
      this.#presets.set(preset.name, { preset, from: loaded });
    }
    this.#plugins.push(loaded);
  }

  #refuseDuplicate(loaded: LoadedPlugin, other: LoadedPlugin | undefined, what: string): void {
    if (!other) return;
    throw new EspalierError(
      "ESPALIER_PLUGIN_DUPLICATE",
      `the plugins "${other.source}" and "${loaded.source}" both bring the ${what}`,
      { hint: "remove one of them" },
    );
  }

  /** Every plugin, in the order in which they were loaded. */
  plugins(): readonly LoadedPlugin[] {
    return this.#plugins;
  }

  /** The names of a kind. */
  names(kind: StrategyKind): string[] {
    return [...this.#strategies.values()]
      .filter((registered) => registered.declaration.kind === kind)
      .map((registered) => registered.declaration.name);
  }

  /**
   * A strategy by its name.
   *
   * @throws UsageError ESPALIER_STRATEGY_UNKNOWN with the nearest names
   */
  strategy<Kind extends StrategyKind>(
    kind: Kind,
    name: string,
    details: { readonly file?: string; readonly key?: string } = {},
  ): RegisteredStrategy<Kind> {
    const registered = this.#strategies.get(`${kind}/${name}`);
    if (!registered)
      throw unknownName("ESPALIER_STRATEGY_UNKNOWN", kindNames[kind], name, this.names(kind), details);
    // The map's key holds the kind, so the declaration is of this kind.
    return registered as RegisteredStrategy<StrategyKind> as RegisteredStrategy<Kind>;
  }

  /**
   * A preset by its name.
   *
   * @throws UsageError ESPALIER_PRESET_UNKNOWN with the nearest names
   */
  preset(
    name: string,
    details: { readonly file?: string; readonly key?: string } = {},
  ): { readonly preset: Preset; readonly from: LoadedPlugin } {
    const found = this.#presets.get(name);
    if (!found)
      throw unknownName("ESPALIER_PRESET_UNKNOWN", "preset", name, [...this.#presets.keys()], details);
    return found;
  }

  /** Whether there is a preset of this name. */
  hasPreset(name: string): boolean {
    return this.#presets.has(name);
  }

  /** The names of all presets. */
  presetNames(): string[] {
    return [...this.#presets.keys()];
  }
}
