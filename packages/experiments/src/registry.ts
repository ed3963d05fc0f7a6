import { dirname } from "node:path";
import {
  EspalierError,
  type Plugin,
  type Preset,
  type StrategyDeclaration,
  type StrategyKind,
  unknownName,
} from "@espalier/core";
import { findDependencies, type LoadedPlugin, loadPlugin, type PluginPlace } from "./find-plugins.js";

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
  /** Lists of plugins, and where each stands: a definition's `plugins:`, the command line's `--plugin`. */
  readonly named?: readonly NamedPlugins[];
}

/** Plugins that are asked for by name or path. */
export interface NamedPlugins extends PluginPlace {
  readonly sources: readonly string[];
  /** Is told of a plugin that cannot be loaded, or brings a name that is taken, which is then left out. Without it that is an error. */
  readonly leaveOut?: (error: EspalierError) => void;
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
    const named = search.named ?? [];
    for (const place of named)
      for (const source of place.sources)
        try {
          registry.add(await loadPlugin(source, place));
        } catch (error) {
          if (!place.leaveOut || !(error instanceof EspalierError)) throw error;
          place.leaveOut(error);
        }
    for (const [name, manifest] of await findDependencies(search.folders))
      if (!named.some(({ sources }) => sources.includes(name)))
        registry.add(
          await loadPlugin(name, {
            origin: "dependency",
            file: manifest,
            folder: dirname(manifest),
            key: "plugins",
          }),
        );
    return registry;
  }

  /** Adds a plugin, or nothing of it where a name is taken. One that is there already (the same object) is not added twice. */
  add(loaded: LoadedPlugin): void {
    if (this.#plugins.some((other) => other.plugin === loaded.plugin)) return;
    const strategies = new Map<string, RegisteredStrategy>();
    for (const declaration of loaded.plugin.strategies) {
      const key = `${declaration.kind}/${declaration.name}`;
      const other = this.#strategies.get(key) ?? strategies.get(key);
      this.#refuseDuplicate(loaded, other?.from, `${kindNames[declaration.kind]} "${declaration.name}"`);
      strategies.set(key, { declaration, from: loaded });
    }
    const presets = new Map<string, { readonly preset: Preset; readonly from: LoadedPlugin }>();
    for (const preset of loaded.plugin.presets) {
      const other = this.#presets.get(preset.name) ?? presets.get(preset.name);
      this.#refuseDuplicate(loaded, other?.from, `preset "${preset.name}"`);
      presets.set(preset.name, { preset, from: loaded });
    }
    for (const [key, registered] of strategies) this.#strategies.set(key, registered);
    for (const [name, registered] of presets) this.#presets.set(name, registered);
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
