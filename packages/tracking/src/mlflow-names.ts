import type { JsonObject } from "@espalier/core";
import { isValidKey, limits, type Param } from "@espalier/mlflow-js-client";

/**
 * A definition as MLflow params: nested keys joined by dots (`growth.sampler.use`), as they are written in overrides.
 * Lists are JSON.
 */
export function flattenParams(definition: JsonObject): Param[] {
  const params: Param[] = [];
  const taken = new Set<string>();
  const walk = (value: unknown, path: string): void => {
    if (value === undefined) return;
    if (isObject(value) && Object.keys(value).length > 0) {
      for (const [key, child] of Object.entries(value)) walk(child, path === "" ? key : `${path}.${key}`);
      return;
    }
    const key = distinct(mlflowKey(path), taken);
    const text = typeof value === "string" ? value : JSON.stringify(value);
    params.push({ key, value: shorten(text, limits.paramValueLength) });
  };
  for (const [key, child] of Object.entries(definition)) walk(child, key);
  return params;
}

/** The nearest name that MLflow takes. */
export function mlflowKey(name: string): string {
  const key = Array.from(name.replace(/[^\p{L}\p{N}_.\- ]/gu, "_"))
    .slice(0, limits.keyLength)
    .join("");
  return isValidKey(key) ? key : `_${key}`.slice(0, limits.keyLength);
}

/** Cuts a text that is too long and says so at its end. */
export function shorten(text: string, longest: number): string {
  const characters = Array.from(text);
  if (characters.length <= longest) return text;
  const end = `… (${characters.length} characters)`;
  return characters.slice(0, longest - end.length).join("") + end;
}

function distinct(key: string, taken: Set<string>): string {
  let name = key;
  for (let number = 2; taken.has(name); number++) name = `${key.slice(0, limits.keyLength - 8)}_${number}`;
  taken.add(name);
  return name;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
