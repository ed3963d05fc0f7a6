import type { JsonObject } from "@espalier/core";
import { isValidKey, limits, type Param } from "@espalier/mlflow-js-client";

/** The artifact that has the values which are too long for a param, whole, by their keys. */
export const longParamsFile = "long-params.json";

/**
 * A definition as MLflow params: nested keys joined by dots (`growth.sampler.use`), as they are written in overrides.
 * Lists are JSON. A value that is too long is cut, and says so at its end; {@link longParams} has all of it.
 */
export function flattenParams(definition: JsonObject): Param[] {
  return [...flatten(definition)].map(([key, value]) => ({
    key,
    value: shorten(value, limits.paramValueLength, ` in ${longParamsFile}`),
  }));
}

/** What {@link flattenParams} cuts, whole; `null` where it cuts nothing. */
export function longParams(definition: JsonObject): Readonly<Record<string, string>> | null {
  const long = [...flatten(definition)].filter(
    ([, value]) => Array.from(value).length > limits.paramValueLength,
  );
  return long.length === 0 ? null : Object.fromEntries(long);
}

/** The nearest name that MLflow takes. */
export function mlflowKey(name: string): string {
  const key = Array.from(name.replace(/[^\p{L}\p{N}_.\- ]/gu, "_"))
    .slice(0, limits.keyLength)
    .join("");
  return isValidKey(key) ? key : `_${key}`.slice(0, limits.keyLength);
}

/** Cuts a text that is too long and says so at its end, and where the rest is. */
export function shorten(text: string, longest: number, where = ""): string {
  const characters = Array.from(text);
  if (characters.length <= longest) return text;
  const end = `… (${characters.length} characters${where})`;
  return characters.slice(0, longest - end.length).join("") + end;
}

function flatten(definition: JsonObject): Map<string, string> {
  const found = new Map<string, string>();
  const walk = (value: unknown, path: string): void => {
    if (value === undefined) return;
    if (isObject(value) && Object.keys(value).length > 0) {
      for (const [key, child] of Object.entries(value)) walk(child, path === "" ? key : `${path}.${key}`);
      return;
    }
    found.set(distinct(mlflowKey(path), found), typeof value === "string" ? value : JSON.stringify(value));
  };
  for (const [key, child] of Object.entries(definition)) walk(child, key);
  return found;
}

function distinct(key: string, taken: ReadonlyMap<string, unknown>): string {
  let name = key;
  for (let number = 2; taken.has(name); number++) name = `${key.slice(0, limits.keyLength - 8)}_${number}`;
  return name;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
