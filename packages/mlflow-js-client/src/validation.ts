import { posix } from "node:path";
import { MlflowInputError } from "./errors.js";
import { limits } from "./limits.js";

/** A metric point. */
export interface Metric {
  readonly key: string;
  /** Finite. */
  readonly value: number;
  /** Whole milliseconds since the epoch. */
  readonly timestamp: number;
  /** A whole number. Default 0. */
  readonly step?: number;
}

/** A parameter: it may be sent again with the same value, never with another one. */
export interface Param {
  readonly key: string;
  readonly value: string;
}

/** A tag: sent again it is overwritten. */
export interface Tag {
  readonly key: string;
  readonly value: string;
}

const letters = /^[\p{L}\p{N}_.\-: /]+$/u;

/**
 * Refuses a name of a metric, param or tag that a server refuses. A server uses names as files, so they must look the
 * same as a path: no `a//b`, `../a`, `/a`, `a/`, `.`.
 *
 * @param field what the error calls it: `metrics[3].key`
 * @throws MlflowInputError
 */
export function checkKey(key: string, field: string): void {
  if (typeof key !== "string" || key === "") throw new MlflowInputError(`${field}: a name is needed`, field);
  if (!letters.test(key))
    throw new MlflowInputError(
      `${field}: "${key}" may have only letters, digits, underscores, dashes, periods, spaces, colons and slashes`,
      field,
    );
  if (posix.normalize(key) !== key || key.endsWith("/") || key.startsWith("/") || /^\.\.?(\/|$)/.test(key))
    throw new MlflowInputError(
      `${field}: "${key}" would be another name if it were a path ("${posix.normalize(key)}")`,
      field,
    );
  checkLength(key, limits.keyLength, field);
}

/** Whether {@link checkKey} accepts it. */
export function isValidKey(key: string): boolean {
  try {
    checkKey(key, "key");
    return true;
  } catch {
    return false;
  }
}

/** Refuses what would spoil the request: a server drops everything behind a value that it cannot parse. */
export function checkMetric(metric: Metric, field: string): void {
  checkKey(metric.key, `${field}.key`);
  if (typeof metric.value !== "number" || !Number.isFinite(metric.value))
    throw new MlflowInputError(
      `${field}.value: ${metric.key} is ${metric.value}; a server takes finite numbers`,
      `${field}.value`,
    );
  if (!Number.isSafeInteger(metric.timestamp) || metric.timestamp < 0)
    throw new MlflowInputError(
      `${field}.timestamp: expected whole milliseconds since the epoch, not ${metric.timestamp}`,
      `${field}.timestamp`,
    );
  if (metric.step !== undefined && !Number.isSafeInteger(metric.step))
    throw new MlflowInputError(`${field}.step: expected a whole number, not ${metric.step}`, `${field}.step`);
}

/** @throws MlflowInputError */
export function checkParam(param: Param, field: string): void {
  checkKey(param.key, `${field}.key`);
  checkText(param.value, limits.paramValueLength, `${field}.value`);
}

/** @throws MlflowInputError */
export function checkTag(tag: Tag, field: string): void {
  checkKey(tag.key, `${field}.key`);
  checkText(tag.value, limits.tagValueLength, `${field}.value`);
}

/** @throws MlflowInputError */
export function checkExperimentName(name: string): void {
  if (typeof name !== "string" || name.trim() === "")
    throw new MlflowInputError("experiment name: a name is needed", "name");
  checkLength(name, limits.experimentNameLength, "name");
}

function checkText(value: string, longest: number, field: string): void {
  if (typeof value !== "string")
    throw new MlflowInputError(`${field}: expected text, not ${typeof value}`, field);
  checkLength(value, longest, field);
}

/**
 * Refuses a text that is too long. Servers count code points, not UTF-16 units.
 *
 * @throws MlflowInputError
 */
export function checkLength(text: string, longest: number, field: string): void {
  if (text.length <= longest) return;
  const length = Array.from(text).length;
  if (length > longest)
    throw new MlflowInputError(`${field}: ${length} characters, at most ${longest} are taken`, field);
}
