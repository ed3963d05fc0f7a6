import { z } from "zod";

/** A key or an index on the way into a definition. */
export type Path = readonly (string | number)[];

/** `growth.schedule.depths.0` */
export function dotted(path: readonly PropertyKey[]): string {
  return path.map(String).join(".");
}

/** The schema under defaults, options and transformations. */
function unwrapped(schema: z.core.$ZodType): z.core.$ZodType {
  let inner = schema;
  for (;;) {
    if (inner instanceof z.ZodPipe) inner = inner.in;
    else if (
      inner instanceof z.ZodOptional ||
      inner instanceof z.ZodDefault ||
      inner instanceof z.ZodPrefault ||
      inner instanceof z.ZodNullable ||
      inner instanceof z.ZodReadonly
    )
      inner = inner.unwrap();
    else return inner;
  }
}

/** The schemas that a value at this path may have: several where a union stands on the way. */
export function schemasAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): z.core.$ZodType[] {
  let current = alternatives(schema);
  for (const key of path)
    current = current.flatMap((candidate) => {
      if (candidate instanceof z.ZodObject) {
        const shape: Readonly<Record<string, z.core.$ZodType>> = candidate.shape;
        const child = shape[String(key)];
        return child ? alternatives(child) : [];
      }
      if (candidate instanceof z.ZodArray) return alternatives(candidate.element);
      return [];
    });
  return current;
}

function alternatives(schema: z.core.$ZodType): z.core.$ZodType[] {
  const inner = unwrapped(schema);
  return inner instanceof z.ZodUnion ? inner.options.flatMap(alternatives) : [inner];
}

/** The nearest schema on the way to a path that a registry knows something of. */
export function registeredAt(
  schema: z.core.$ZodType,
  path: readonly PropertyKey[],
  registry: z.core.$ZodRegistry<{ readonly expected: string }>,
): { readonly expected: string } | undefined {
  let current: z.core.$ZodType | undefined = schema;
  for (const key of path) {
    const inner: z.core.$ZodType = unwrapped(current);
    if (inner instanceof z.ZodObject) {
      const shape: Readonly<Record<string, z.core.$ZodType>> = inner.shape;
      current = shape[String(key)];
    } else if (inner instanceof z.ZodArray) current = inner.element;
    else return undefined;
    if (!current) return undefined;
  }
  for (let inner: z.core.$ZodType = current; ; ) {
    const found = registry.get(inner);
    if (found) return found;
    if (inner instanceof z.ZodOptional || inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault)
      inner = inner.unwrap();
    else return undefined;
  }
}

/** The keys that an object at this path may have. */
export function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[], given?: unknown): string[] {
  const keys = new Set<string>();
  for (const candidate of schemasAt(schema, path))
    if (candidate instanceof z.ZodObject && isOfKind(candidate, given))
      for (const key of Object.keys(candidate.shape)) keys.add(key);
  return [...keys].filter((key) => key !== "$schema");
}

/** Whether a value is meant as this alternative: the keys that tell alternatives apart (`kind: bpe`) have its values. */
function isOfKind(candidate: z.ZodObject, given: unknown): boolean {
  if (typeof given !== "object" || given === null) return true;
  const shape: Readonly<Record<string, z.core.$ZodType>> = candidate.shape;
  return Object.entries(given).every(([key, value]) => {
    const literal = shape[key];
    return !(literal instanceof z.ZodLiteral) || [...literal.values].includes(value);
  });
}

/** The value at a path of plain data, or undefined. */
export function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let current = value;
  for (const key of path) {
    if (typeof current !== "object" || current === null) return undefined;
    current = (current as Readonly<Record<PropertyKey, unknown>>)[key];
  }
  return current;
}
