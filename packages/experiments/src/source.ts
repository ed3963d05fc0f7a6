import { readFile, stat } from "node:fs/promises";
import { dirname, extname, resolve } from "node:path";
import { EspalierError, UsageError } from "@espalier/core";
import { importModule } from "./module-loader.js";
import type { Locate } from "./schema-errors.js";

/** A definition as it was read, before it is checked. */
export interface DefinitionSource {
  /** The path as it was given. */
  readonly file: string;
  /** The folder that its relative paths start from. */
  readonly baseDirectory: string;
  /** What the run's folder keeps as `definition.yaml`. */
  readonly text: string;
  readonly value: { readonly [key: string]: unknown };
  readonly locate: Locate;
}

const moduleExtensions = new Set([".ts", ".mts", ".js", ".mjs"]);

/**
 * Reads a definition: YAML or JSON, or a module whose default export is one.
 *
 * @throws UsageError where there is no such file, or it is no definition; with the line in YAML
 */
export async function readDefinition(file: string): Promise<DefinitionSource> {
  const info = await stat(file).catch((cause: NodeJS.ErrnoException) => {
    throw new UsageError(
      "ESPALIER_DEFINITION_NOT_FOUND",
      cause.code === "ENOENT"
        ? `there is no definition "${file}"`
        : `the definition "${file}" cannot be read: ${cause.message}`,
      { file, cause },
    );
  });
  if (info.isDirectory())
    throw new UsageError("ESPALIER_DEFINITION_NOT_FOUND", `"${file}" is a folder, not a definition`, {
      file,
      hint: "give a YAML, JSON or TypeScript file",
    });
  return moduleExtensions.has(extname(file)) ? readModule(file) : readYaml(file);
}

async function readYaml(file: string): Promise<DefinitionSource> {
  const text = await readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new EspalierError("ESPALIER_DEFINITION_UNREADABLE", `cannot read: ${cause.message}`, {
      file,
      cause,
    });
  });
  const { isMap, isPair, isScalar, LineCounter, parseDocument } = await import("yaml");
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const fault = document.errors[0];
  if (fault)
    throw new UsageError("ESPALIER_DEFINITION_SYNTAX", fault.message, {
      file: `${file}:${lines.linePos(fault.pos[0]).line}`,
    });
  const value: unknown = document.toJS();
  if (!isObject(value))
    throw new UsageError(
      "ESPALIER_DEFINITION_SYNTAX",
      "a definition is a group of keys (name, model, data, …)",
      {
        file,
      },
    );
  return {
    file,
    baseDirectory: dirname(resolve(file)),
    text,
    value,
    locate(path) {
      // The line of the key itself, or of the nearest key above it that is there.
      for (let length = path.length; length > 0; length--) {
        const parent = document.getIn(path.slice(0, length - 1), true);
        const last = path[length - 1];
        const container = length === 1 ? document.contents : parent;
        if (isMap(container)) {
          const pair = container.items.find(
            (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(last),
          );
          const range = pair && isScalar(pair.key) ? pair.key.range : undefined;
          if (range) return `${file}:${lines.linePos(range[0]).line}`;
        }
      }
      return file;
    },
  };
}

async function readModule(file: string): Promise<DefinitionSource> {
  const loaded = await importModule(resolve(file));
  const value = loaded.default;
  if (!isObject(value))
    throw new UsageError(
      "ESPALIER_DEFINITION_SYNTAX",
      "a definition written as a module exports it by default: export default defineExperiment({ … })",
      { file },
    );
  const { stringify } = await import("yaml");
  return {
    file,
    baseDirectory: dirname(resolve(file)),
    text: stringify(value),
    value,
    locate: () => file,
  };
}

/** Whether it is a group of keys. */
export function isObject(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
