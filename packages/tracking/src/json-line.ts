import { z } from "zod";

/** The numbers that JSON has no notation for; the journal writes them as these strings. */
const nonFinite = ["NaN", "Infinity", "-Infinity"] as const;

/** A real number as the journal stores it: a JSON number, or one of "NaN", "Infinity", "-Infinity". */
export const real = z.union([z.number(), z.enum(nonFinite).transform(Number)]);

/** A whole number that is not negative. */
export const count = z.number().int().nonnegative();

/**
 * Writes a value as one line of JSON from which every number comes back to the bit: `-0` keeps its sign, and NaN and
 * the infinities become strings (`JSON.stringify` writes `0` and `null` for these).
 */
export function toJsonLine(value: unknown): string {
  return `${encode(value)}\n`;
}

function encode(value: unknown): string {
  if (typeof value === "number") {
    if (!Number.isFinite(value)) return `"${value}"`;
    return Object.is(value, -0) ? "-0" : String(value);
  }
  if (Array.isArray(value)) return `[${value.map((item) => encode(item ?? null)).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .map(([key, member]) => `${JSON.stringify(key)}:${encode(member)}`);
    return `{${members.join(",")}}`;
  }
  return JSON.stringify(value) ?? "null";
}
