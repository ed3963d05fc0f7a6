import { UsageError } from "@espalier/core";
import { z } from "zod";
import { budgetUnits, definitionSchema, expectations } from "./schema.js";
import { described } from "./schema-errors.js";
import { dotted, keysAt, registeredAt, schemasAt } from "./schema-walk.js";
import { isObject } from "./source.js";

/** `a.b.c=value` from the command line. */
export interface Override {
  readonly text: string;
  readonly path: readonly string[];
  readonly value: unknown;
}

/** What messages name instead of a file. */
export const commandLine = "command line";

/**
 * Reads `a.b.c=value`. The value is YAML (`3`, `[3, 6]`, `{use: lvps}`), and text where the key wants text.
 *
 * @throws UsageError ESPALIER_OVERRIDE_SYNTAX
 */
export async function parseOverride(text: string): Promise<Override> {
  const { key, raw } = split(text);
  const path = key.split(".");
  if (path.includes("")) throw notAnOverride(text);
  return { text, path, value: wantsText(path) ? raw : await readValue(key, raw) };
}

/**
 * Reads `key=value` where keys have no parts, as the options of an expander.
 *
 * @throws UsageError ESPALIER_OVERRIDE_SYNTAX
 */
export async function parseAssignment(text: string): Promise<readonly [key: string, value: unknown]> {
  const { key, raw } = split(text);
  return [key, await readValue(key, raw)];
}

function split(text: string): { readonly key: string; readonly raw: string } {
  const equals = text.indexOf("=");
  if (equals < 1) throw notAnOverride(text);
  return { key: text.slice(0, equals), raw: text.slice(equals + 1) };
}

function notAnOverride(text: string): UsageError {
  return new UsageError("ESPALIER_OVERRIDE_SYNTAX", `"${text}" is not of the form key=value`, {
    file: commandLine,
    hint: "for example training.steps=200",
  });
}

async function readValue(key: string, raw: string): Promise<unknown> {
  const { parse } = await import("yaml");
  try {
    return parse(raw) as unknown;
  } catch (cause) {
    throw new UsageError("ESPALIER_OVERRIDE_SYNTAX", `the value of "${key}" cannot be read: ${raw}`, {
      file: commandLine,
      key,
      cause,
    });
  }
}

function wantsText(path: readonly string[]): boolean {
  const schemas = schemasAt(definitionSchema, path);
  return schemas.length > 0 && schemas.every((schema) => schema instanceof z.ZodString);
}

/** A definition with overrides laid over it; what was given stays as it is. */
export function applyOverrides(
  value: { readonly [key: string]: unknown },
  overrides: readonly Override[],
): { [key: string]: unknown } {
  const result = structuredClone(value) as { [key: string]: unknown };
  replaceBudget(result, overrides);
  for (const override of overrides) applyOverride(result, override);
  return result;
}

// A run has one budget: one that the command line gives takes the place of the definition's.
function replaceBudget(root: { [key: string]: unknown }, overrides: readonly Override[]): void {
  const given = overrides.some(
    ({ path }) => path.length === 2 && path[0] === "training" && isBudgetUnit(path[1]!),
  );
  const { training } = root;
  if (!given || !isObject(training)) return;
  root.training = Object.fromEntries(Object.entries(training).filter(([key]) => !isBudgetUnit(key)));
}

function isBudgetUnit(key: string): boolean {
  return budgetUnits.some((unit) => unit === key);
}

function applyOverride(root: { [key: string]: unknown }, { path, value }: Override): void {
  let container: { [key: string]: unknown } = root;
  for (const [index, key] of path.slice(0, -1).entries()) {
    const here = path.slice(0, index + 1);
    const child = container[key];
    if (child === undefined || child === null) container[key] = {};
    else if (typeof child === "string" && isReference(here)) container[key] = { use: child };
    else if (!isObject(child) && !Array.isArray(child))
      throw new UsageError(
        "ESPALIER_OVERRIDE_PATH",
        `"${dotted(path)}" cannot be set: "${dotted(here)}" is ${described(child)}, not a group of keys`,
        { file: commandLine, key: dotted(path) },
      );
    container = container[key] as { [key: string]: unknown };
  }
  const last = path[path.length - 1]!;
  if (Array.isArray(container) && !(Number(last) >= 0 && Number(last) <= container.length))
    throw new UsageError(
      "ESPALIER_OVERRIDE_PATH",
      `"${dotted(path)}" cannot be set: the list has the places 0 to ${container.length - 1}`,
      { file: commandLine, key: dotted(path) },
    );
  container[last] = value;
}

function isReference(path: readonly string[]): boolean {
  return (
    keysAt(definitionSchema, path).includes("use") ||
    registeredAt(definitionSchema, path, expectations)?.expected.startsWith("a strategy") === true
  );
}
