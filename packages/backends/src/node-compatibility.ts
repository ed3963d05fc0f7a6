import { createRequire } from "node:module";

/**
 * Functions of `node:util` that `@tensorflow/tfjs-node-gpu` 4.22.0 calls and that Node removed in version 23.
 * Each is put back exactly as Node documented it.
 */
const REMOVED: Readonly<Record<string, (value: unknown) => boolean>> = {
  isNullOrUndefined: (value) => value === null || value === undefined,
  isArray: (value) => Array.isArray(value),
};

/** The module object that `require("util")` gives to everybody; an ES module import would be a frozen copy. */
function utilModule(): Record<string, unknown> {
  return createRequire(import.meta.url)("node:util") as Record<string, unknown>;
}

/** What this version of Node lacks of them: nothing before Node 23. */
export function missingNodeFunctions(): string[] {
  const util = utilModule();
  return Object.keys(REMOVED)
    .filter((name) => typeof util[name] !== "function" || restored.has(name))
    .map((name) => `util.${name}`);
}

const restored = new Set<string>();

/**
 * Puts back what is missing; gives the names of what it put back. Node 22 still has them, with a warning on the terminal
 * at the first call: there they are replaced, too.
 */
export function restoreNodeFunctions(): string[] {
  const util = utilModule();
  const isWarning = Number(process.versions.node.split(".")[0]) >= 22;
  for (const [name, replacement] of Object.entries(REMOVED)) {
    const isThere = typeof util[name] === "function";
    if (!isThere) restored.add(name);
    if (!isThere || isWarning) util[name] = replacement;
  }
  return [...restored].map((name) => `util.${name}`);
}
