import { readFile, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { EspalierError, type Plugin, UsageError } from "@espalier/core";
import { importModule } from "./module-loader.js";
import { isObject } from "./source.js";

/** Where a plugin came from. */
export type PluginOrigin = "built in" | "dependency" | "definition" | "command line";

/** Who names a plugin. */
export interface PluginPlace {
  readonly origin: PluginOrigin;
  /** For messages. */
  readonly file: string;
  /** The folder that paths start from, and packages are looked for from. */
  readonly folder: string;
  /** The key or option that names it, for messages. */
  readonly key: string;
}

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
 * Loads a plugin that a definition, a package.json or the command line names.
 *
 * @param source package name, or a path (starts with `.` or `/`, or ends like a module)
 * @throws UsageError if it is not there; EspalierError if it fails to load or is no plugin. Both name it.
 */
export async function loadPlugin(source: string, from: PluginPlace): Promise<LoadedPlugin> {
  const path = isPath(source)
    ? await moduleIn(resolve(from.folder, source), source, from)
    : await packageOrHint(source, from);
  let exported: unknown;
  try {
    exported = (await importModule(path)).default;
  } catch (cause) {
    throw new EspalierError(
      "ESPALIER_PLUGIN_FAILED",
      `the plugin "${source}" failed to load: ${cause instanceof Error ? cause.message : String(cause)}`,
      { file: from.file, cause },
    );
  }
  const plugin = checkPlugin(exported, source, from.file);
  return { plugin, version: await versionOf(path), origin: from.origin, source };
}

function isPath(source: string): boolean {
  return source.startsWith(".") || isAbsolute(source) || /\.(m?js|m?ts)$/.test(source);
}

async function moduleIn(path: string, source: string, from: PluginPlace): Promise<string> {
  const info = await stat(path).catch(() => null);
  if (!info)
    throw new UsageError(
      "ESPALIER_PLUGIN_NOT_FOUND",
      `there is no plugin at "${source}"${source === path ? "" : ` (${path})`}`,
      { file: from.file, key: from.key },
    );
  if (!info.isDirectory()) return path;
  const manifest = await readManifest(join(path, "package.json"));
  if (typeof manifest?.name === "string") return resolvePackage(manifest.name, { ...from, folder: path });
  for (const name of ["index.js", "index.mjs", "index.ts"])
    if (await stat(join(path, name)).catch(() => null)) return join(path, name);
  throw new UsageError(
    "ESPALIER_PLUGIN_NOT_FOUND",
    `the folder "${source}" holds no index.js and no package`,
    {
      file: from.file,
      key: from.key,
    },
  );
}

// `plugins/mine` is a package's name until it is written as a path.
async function packageOrHint(source: string, from: PluginPlace): Promise<string> {
  try {
    return resolvePackage(source, from);
  } catch (error) {
    if (!(error instanceof UsageError) || !(await stat(resolve(from.folder, source)).catch(() => null)))
      throw error;
    const { code, message, file, key, cause } = error;
    throw new UsageError(code, message, {
      file,
      key,
      hint: `there is a folder of that name; a path begins with ./ or ../: write ./${source}`,
      cause,
    });
  }
}

// A package may name itself, so this serves a plugin's own folder, too.
function resolvePackage(name: string, from: PluginPlace): string {
  try {
    return createRequire(resolve(from.folder, "package.json")).resolve(name);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "MODULE_NOT_FOUND";
    throw new UsageError(
      "ESPALIER_PLUGIN_NOT_FOUND",
      missing
        ? `the plugin "${name}" is not installed, or not built`
        : `the plugin "${name}" failed to load: ${cause instanceof Error ? cause.message : String(cause)}`,
      { file: from.file, key: from.key, hint: `npm install ${name}`, cause },
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
