import { readFile, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { EspalierError, type Plugin, UsageError } from "@espalier/core";
import { importModule } from "./module-loader.js";
import { isObject } from "./source.js";

/** Where a plugin came from. */
export type PluginOrigin = "built in" | "dependency" | "definition";

/** A plugin, with what the lock says of it. */
export interface LoadedPlugin {
  readonly plugin: Plugin;
  readonly version: string;
  readonly origin: PluginOrigin;
  /** Package name or path, as it was asked for. */
  readonly source: string;
}

/** Whether a dependency's name says that it is a plugin. */
export function isPluginName(name: string): boolean {
  return name.includes("espalier-plugin") || name.startsWith("@espalier/plugin-");
}

// The conformance suite is a package for plugin authors, not a plugin.
const notPlugins = new Set(["@espalier/plugin-kit"]);

/**
 * The plugins among the dependencies of every package.json in the given folders and above them, nearest first.
 *
 * @returns package name → the package.json that depends on it
 */
export async function findDependencies(folders: readonly string[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const folder of folders)
    for (const manifest of manifestsAbove(folder)) {
      const content = await readManifest(manifest);
      if (!content) continue;
      for (const group of ["dependencies", "devDependencies", "optionalDependencies"]) {
        const dependencies = content[group];
        if (!isObject(dependencies)) continue;
        for (const name of Object.keys(dependencies))
          if (isPluginName(name) && !notPlugins.has(name) && !found.has(name)) found.set(name, manifest);
      }
    }
  return found;
}

function manifestsAbove(folder: string): string[] {
  const manifests: string[] = [];
  for (let current = resolve(folder); ; current = dirname(current)) {
    manifests.push(join(current, "package.json"));
    if (dirname(current) === current) return manifests;
  }
}

async function readManifest(path: string): Promise<{ readonly [key: string]: unknown } | null> {
  try {
    const content: unknown = JSON.parse(await readFile(path, "utf8"));
    return isObject(content) ? content : null;
  } catch {
    return null;
  }
}

/**
 * Loads a plugin that a definition or a package.json names.
 *
 * @param source package name, or a path (starts with `.` or `/`, or ends like a module)
 * @param from the file that names it
 * @throws UsageError if it is not there; EspalierError if it fails to load or is no plugin. Both name it.
 */
export async function loadPlugin(source: string, from: string, origin: PluginOrigin): Promise<LoadedPlugin> {
  const path = isPath(source)
    ? await moduleIn(resolve(dirname(from), source), source, from)
    : resolvePackage(source, from);
  let exported: unknown;
  try {
    exported = (await importModule(path)).default;
  } catch (cause) {
    throw new EspalierError(
      "ESPALIER_PLUGIN_FAILED",
      `the plugin "${source}" failed to load: ${cause instanceof Error ? cause.message : String(cause)}`,
      { file: from, cause },
    );
  }
  return { plugin: checkPlugin(exported, source, from), version: await versionOf(path), origin, source };
}

function isPath(source: string): boolean {
  return source.startsWith(".") || isAbsolute(source) || /\.(m?js|m?ts)$/.test(source);
}

async function moduleIn(path: string, source: string, from: string): Promise<string> {
  const info = await stat(path).catch(() => null);
  if (!info)
    throw new UsageError(
      "ESPALIER_PLUGIN_NOT_FOUND",
      `there is no plugin at "${source}"${source === path ? "" : ` (${path})`}`,
      {
        file: from,
        key: "plugins",
      },
    );
  if (!info.isDirectory()) return path;
  const manifest = await readManifest(join(path, "package.json"));
  if (typeof manifest?.name === "string") return resolvePackage(manifest.name, join(path, "package.json"));
  for (const name of ["index.js", "index.mjs", "index.ts"])
    if (await stat(join(path, name)).catch(() => null)) return join(path, name);
  throw new UsageError(
    "ESPALIER_PLUGIN_NOT_FOUND",
    `the folder "${source}" holds no index.js and no package`,
    {
      file: from,
      key: "plugins",
    },
  );
}

// A package may name itself, so this serves a plugin's own folder, too.
function resolvePackage(name: string, from: string): string {
  try {
    return createRequire(resolve(from)).resolve(name);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "MODULE_NOT_FOUND";
    throw new UsageError(
      "ESPALIER_PLUGIN_NOT_FOUND",
      missing
        ? `the plugin "${name}" is not installed, or not built`
        : `the plugin "${name}" failed to load: ${cause instanceof Error ? cause.message : String(cause)}`,
      { file: from, key: "plugins", hint: `npm install ${name}`, cause },
    );
  }
}

/** Refuses what is no plugin of this contract. */
function checkPlugin(exported: unknown, source: string, from: string): Plugin {
  const refuse = (why: string): EspalierError =>
    new EspalierError("ESPALIER_PLUGIN_INVALID", `the plugin "${source}" failed to load: ${why}`, {
      file: from,
    });
  if (!isObject(exported) || typeof exported.name !== "string")
    throw refuse("its default export is no plugin (see definePlugin)");
  if (exported.contract !== 1)
    throw new EspalierError(
      "ESPALIER_PLUGIN_CONTRACT",
      `the plugin "${source}" is written for contract ${String(exported.contract)}, but this version has contract 1`,
      { file: from, hint: "install a version of the plugin that fits" },
    );
  if (!Array.isArray(exported.strategies) || !Array.isArray(exported.presets))
    throw refuse("its strategies and presets must be lists (see definePlugin)");
  for (const strategy of exported.strategies as readonly unknown[])
    if (
      !isObject(strategy) ||
      typeof strategy.name !== "string" ||
      typeof strategy.kind !== "string" ||
      typeof strategy.create !== "function" ||
      !isObject(strategy.options)
    )
      throw refuse("each strategy needs kind, name, options and create (see strategy)");
  // Everything that the registry touches was checked above; options and create are the author's.
  return exported as object as Plugin;
}

async function versionOf(path: string): Promise<string> {
  for (const manifest of manifestsAbove(dirname(path))) {
    const content = await readManifest(manifest);
    if (content) return typeof content.version === "string" ? content.version : "0.0.0";
  }
  return "0.0.0";
}
