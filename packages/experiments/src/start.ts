import { resolve } from "node:path";
import { EspalierError, UsageError } from "@espalier/core";
import { checkDefinition, type LoadedDefinition } from "./load.js";
import { type DefinitionSource, isObject } from "./source.js";

// What a nested definition has from the one around it unless it says otherwise. Its model, training and growth are its own.
const inherited = ["seed", "plugins", "data", "objective", "evaluation", "checkpoints", "tracking"] as const;
const machine = ["backend", "device", "threads"] as const;

/** What the key `start` says. */
export type StartReference =
  | { readonly kind: "none" }
  /** An absolute path. */
  | { readonly kind: "checkpoint"; readonly path: string }
  | {
      readonly kind: "definition";
      readonly loaded: LoadedDefinition;
      /** The keys that it gives itself. */
      readonly own: ReadonlySet<string>;
    };

/**
 * Reads the key `start`; paths begin at the definition's folder.
 *
 * @throws UsageError for a nested definition with wrong keys
 */
export function startOf({ definition, source, locate }: LoadedDefinition): StartReference {
  const { start } = definition;
  if (start === "none") return { kind: "none" };
  if (typeof start === "string") return { kind: "checkpoint", path: resolve(source.baseDirectory, start) };
  const around: { [key: string]: unknown } = { name: `${definition.name}-start` };
  for (const key of inherited) if (definition[key] !== undefined) around[key] = definition[key];
  // The engine is chosen once for both.
  const value = { ...around, ...start, ...Object.fromEntries(machine.map((key) => [key, definition[key]])) };
  const nested: DefinitionSource = {
    ...source,
    text: JSON.stringify(value, null, 2),
    value: isObject(value) ? value : {},
    locate: (path) => locate(["start", ...path]),
  };
  const own = new Set(Object.keys(start));
  try {
    return { kind: "definition", loaded: checkDefinition(nested, []), own };
  } catch (error) {
    throw underStart(error, own);
  }
}

/** An error of a nested definition, by the keys of the one around it. What is inherited stands there as it is. */
export function underStart(error: unknown, own: ReadonlySet<string>): unknown {
  if (!(error instanceof EspalierError) || error.key === undefined) return error;
  if (!own.has(error.key.split(".")[0]!)) return error;
  const { code, message, hint, file, key, cause } = error;
  const details = { hint, file, key: `start.${key}`, cause };
  return error instanceof UsageError
    ? new UsageError(code, message, details)
    : new EspalierError(code, message, details);
}
