import type { JsonObject, Services, StrategyKind, StrategyKinds } from "@espalier/core";
import { EspalierError, shapeAxes, UsageError } from "@espalier/core";
import type { PluginRegistry, RegisteredStrategy } from "./registry.js";
import { definitionSchema, type StrategyReference } from "./schema.js";
import { type Locate, schemaError } from "./schema-errors.js";

/** A strategy that a definition chose, with its options complete. */
export interface StrategyChoice<Kind extends StrategyKind = StrategyKind> {
  readonly kind: Kind;
  readonly use: string;
  /** With the strategy's own defaults in place. */
  readonly options: object;
  /** Where it stands in the definition. */
  readonly key: string;
  readonly registered: RegisteredStrategy<Kind>;
}

/** `use` beside its options. */
export interface Reference {
  readonly use: string | undefined;
  readonly options: JsonObject;
}

/** Splits a reference; `lvps` is `{ use: lvps }`. */
export function splitReference(reference: StrategyReference): Reference {
  if (typeof reference === "string") return { use: reference, options: {} };
  const { use, ...options } = reference;
  return { use, options: options as JsonObject };
}

/**
 * Lays an explicit reference over an inherited one. Options are inherited only from the same strategy: another `use`
 * starts with its own defaults.
 */
export function overrideReference(explicit: StrategyReference | undefined, inherited: Reference): Reference {
  if (explicit === undefined) return inherited;
  const { use, options } = splitReference(explicit);
  if (use !== undefined && use !== inherited.use) return { use, options };
  return { use: inherited.use, options: { ...inherited.options, ...options } };
}

/**
 * Finds a strategy and checks its options.
 *
 * @throws UsageError with the dotted key (`growth.sampler.end`), or the nearest names
 */
export function chooseStrategy<Kind extends StrategyKind>(
  registry: PluginRegistry,
  kind: Kind,
  reference: Reference,
  key: string,
  locate: Locate,
): StrategyChoice<Kind> {
  const path = key.split(".");
  if (reference.use === undefined)
    throw new UsageError(
      "ESPALIER_DEFINITION_MISSING",
      `"${key}.use" is missing; expected a strategy's name`,
      {
        file: locate(path),
        key: `${key}.use`,
      },
    );
  const registered = registry.strategy(kind, reference.use, { file: locate([...path, "use"]), key });
  const parsed = registered.declaration.options.safeParse(reference.options);
  if (!parsed.success)
    throw schemaError(registered.declaration.options, reference.options, parsed.error.issues, locate, path);
  return { kind, use: reference.use, options: parsed.data, key, registered };
}

/**
 * Makes the strategy. It gets the services that it names in `needs` and nothing else.
 *
 * @throws what the strategy throws; a UsageError gets the definition's file and key where it names none
 */
export function createStrategy<Kind extends StrategyKind>(
  choice: StrategyChoice<Kind>,
  services: Partial<Services>,
  locate: Locate,
): StrategyKinds[Kind] {
  const { declaration } = choice.registered;
  const granted = Object.fromEntries(declaration.needs.map((need) => [need, services[need]]));
  return withPlace(choice.key, locate, () => declaration.create(choice.options, granted));
}

/** Runs something on behalf of a key: an error that names no file gets the key's. */
export function withPlace<T>(key: string, locate: Locate, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw placed(error, key, locate);
  }
}

/** `withPlace` for what takes time. */
export async function withPlaceAsync<T>(key: string, locate: Locate, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw placed(error, key, locate);
  }
}

function placed(error: unknown, key: string, locate: Locate): unknown {
  if (!(error instanceof EspalierError)) return error;
  const at = placeOf(error.key, key);
  const details = {
    hint: error.hint,
    file: error.file ?? locate(at.split(".")),
    key: at,
    cause: error.cause,
  };
  return error instanceof UsageError
    ? new UsageError(error.code, error.message, details)
    : new EspalierError(error.code, error.message, details);
}

// A strategy names its own options (`depths`); the definition knows them by the whole key. Of an expander, the shapes that it
// grows between are the model's.
function placeOf(given: string | undefined, key: string): string {
  if (given === undefined) return key;
  const root = given.split(".")[0]!;
  if (root === "start") return given;
  if (key === "growth.expander" && shapeAxes.some((axis) => axis === given)) return `model.${given}`;
  const absolute = given === root ? key.split(".")[0] === root : root in definitionSchema.shape;
  return absolute ? given : `${key}.${given}`;
}

/** A choice as the lock and `plan` say it: `{ use, …options }`. */
export function describeChoice(choice: StrategyChoice): JsonObject {
  return { use: choice.use, ...(JSON.parse(JSON.stringify(choice.options)) as JsonObject) };
}
