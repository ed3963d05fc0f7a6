import { applyOverrides, commandLine, type Override, parseOverride } from "./overrides.js";
import { type Definition, definitionSchema } from "./schema.js";
import { type Locate, schemaError } from "./schema-errors.js";
import { valueAt } from "./schema-walk.js";
import { type DefinitionSource, readDefinition } from "./source.js";

/** A definition that passed the schema. */
export interface LoadedDefinition {
  readonly source: DefinitionSource;
  readonly overrides: readonly string[];
  readonly definition: Definition;
  /** Where a key stands: file and line, or the command line. */
  readonly locate: Locate;
}

/**
 * Reads a definition, lays the command line's overrides over it and checks keys and types.
 *
 * @param overrides `a.b.c=value`
 * @throws UsageError that names file, line, key, what is expected and what was given
 */
export async function loadDefinition(
  file: string,
  overrides: readonly string[] = [],
): Promise<LoadedDefinition> {
  const source = await readDefinition(file);
  return checkDefinition(source, await Promise.all(overrides.map(parseOverride)));
}

/** Checks what was read. */
export function checkDefinition(source: DefinitionSource, overrides: readonly Override[]): LoadedDefinition {
  const value = applyOverrides(source.value, overrides);
  const locate: Locate = (path) => {
    // An override made what lies under its own path, and what lies above it where the definition has nothing there.
    const isMissing = valueAt(source.value, path) === undefined;
    const given = overrides.find((override) => {
      const shared = Math.min(override.path.length, path.length);
      const isOnTheWay = override.path.slice(0, shared).every((key, index) => key === String(path[index]));
      return isOnTheWay && (shared === override.path.length || isMissing);
    });
    return given ? `${commandLine} (${given.text})` : source.locate(path);
  };
  const parsed = definitionSchema.safeParse(value);
  if (!parsed.success) throw schemaError(definitionSchema, value, parsed.error.issues, locate);
  return {
    source,
    overrides: overrides.map((override) => override.text),
    definition: parsed.data,
    locate,
  };
}
