import { suggest, UsageError } from "@espalier/core";
import { z } from "zod";
import { expectations } from "./schema.js";
import { dotted, keysAt, registeredAt, schemasAt, valueAt } from "./schema-walk.js";

/** Says where a key of a definition stands: `experiments/apollo.yaml:12`, or the command line. */
export type Locate = (path: readonly PropertyKey[]) => string | undefined;

/**
 * Turns what zod found into one error that names file, key, what is expected and what was given. Every fault is listed;
 * the first one gives the error its file and key.
 *
 * @param prefix the key that the value stands under (`growth.sampler`), for option schemas
 */
export function schemaError(
  schema: z.core.$ZodType,
  value: unknown,
  issues: readonly z.core.$ZodIssue[],
  locate: Locate,
  prefix: readonly PropertyKey[] = [],
): UsageError {
  const faults = issues.flatMap((issue) => faultsOf(schema, value, issue, prefix));
  const first = faults[0]!;
  const others = faults.slice(1).map((fault) => `\n  also: ${fault.message}`);
  return new UsageError(first.code, first.message + others.join(""), {
    file: locate(first.path),
    key: dotted(first.path),
  });
}

interface Fault {
  readonly code: string;
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

function faultsOf(
  schema: z.core.$ZodType,
  value: unknown,
  issue: z.core.$ZodIssue,
  prefix: readonly PropertyKey[],
): Fault[] {
  const path = [...prefix, ...issue.path];
  const key = dotted(path);
  const given = valueAt(value, issue.path);
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((unknownKey) => ({
      code: "ESPALIER_DEFINITION_KEY",
      path: [...path, unknownKey],
      message: `unknown key "${dotted([...path, unknownKey])}"; ${nearestKey(unknownKey, keysAt(schema, issue.path, given))}`,
    }));
  if (given === undefined && issue.code !== "custom")
    return [
      {
        code: "ESPALIER_DEFINITION_MISSING",
        path,
        message: `"${key}" is missing; expected ${expected(schema, issue)}`,
      },
    ];
  // An object that lacks one key of one alternative is told about that key, not that "nothing matched".
  if (issue.code === "invalid_union") {
    const nested = closestAlternative(issue.errors);
    if (nested && !registeredAt(schema, issue.path, expectations))
      return nested.flatMap((inner) =>
        faultsOf(schema, value, { ...inner, path: [...issue.path, ...inner.path] }, prefix),
      );
  }
  return [
    {
      code: "ESPALIER_DEFINITION_TYPE",
      path,
      message:
        issue.code === "custom"
          ? `"${key}": ${issue.message}`
          : `"${key}" must be ${expected(schema, issue)}, but is ${described(given)}`,
    },
  ];
}

function closestAlternative(
  errors: readonly (readonly z.core.$ZodIssue[])[],
): readonly z.core.$ZodIssue[] | undefined {
  return [...errors].sort((a, b) => deepest(b) - deepest(a)).find((issues) => deepest(issues) > 0);
}

function deepest(issues: readonly z.core.$ZodIssue[]): number {
  return Math.max(0, ...issues.map((issue) => issue.path.length));
}

// The messages of options end in a list only where there is one.
function nearestKey(given: string, valid: readonly string[]): string {
  return valid.length === 0 ? "it takes no keys" : suggest(given, valid);
}

function expected(schema: z.core.$ZodType, issue: z.core.$ZodIssue): string {
  const registered = registeredAt(schema, issue.path, expectations);
  if (registered) return registered.expected;
  switch (issue.code) {
    case "invalid_type":
      return typeNames[issue.expected] ?? issue.expected;
    case "invalid_value":
      return issue.values.length === 1
        ? String(issue.values[0])
        : `one of ${issue.values.map(String).join(", ")}`;
    case "too_small":
      return issue.origin === "string" || issue.origin === "array"
        ? `a ${issue.origin === "array" ? "list" : "text"} of at least ${issue.minimum}`
        : `${issue.inclusive === false ? "above" : "at least"} ${issue.minimum}`;
    case "too_big":
      return issue.origin === "string" || issue.origin === "array"
        ? `a ${issue.origin === "array" ? "list" : "text"} of at most ${issue.maximum}`
        : `${issue.inclusive === false ? "below" : "at most"} ${issue.maximum}`;
    case "invalid_union":
      return issue.discriminator === undefined
        ? [...new Set(issue.errors.flat().map((inner) => expected(schema, inner)))].join(" or ")
        : `one of ${kindsAt(schema, issue.path).join(", ")}`;
    case "invalid_format":
      return `text of the form ${issue.pattern ?? issue.format}`;
    default:
      return issue.message;
  }
}

/** The values that tell the alternatives of a union apart. */
function kindsAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  return schemasAt(schema, path)
    .filter((candidate) => candidate instanceof z.ZodLiteral)
    .flatMap((literal) => [...literal.values].map(String));
}

const typeNames: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "text",
  boolean: "true or false",
  object: "a group of keys",
  array: "a list",
  record: "a group of keys",
};

/** What was given, short enough for one line. */
export function described(value: unknown): string {
  if (value === null) return "empty";
  if (Array.isArray(value)) return `the list ${shortened(JSON.stringify(value))}`;
  if (typeof value === "object") return `the group ${shortened(JSON.stringify(value))}`;
  if (typeof value === "string") return `the text ${shortened(JSON.stringify(value))}`;
  return String(value);
}

function shortened(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
