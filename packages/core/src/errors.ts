import { closest, distance } from "fastest-levenshtein";

/** Process exit codes of the command line: 0 success, 1 failure, 2 wrong use or a wrong definition. */
export type ExitCode = 1 | 2;

/** What an {@link EspalierError} says beside its message. */
export interface ErrorDetails {
  /** What to do about it, as a sentence or a command. */
  readonly hint?: string;
  /** The file that is at fault, if one is. */
  readonly file?: string;
  /** The key in that file or definition, dotted: `growth.sampler.use`. */
  readonly key?: string;
  readonly cause?: unknown;
}

/**
 * A failure that a user can act on. It is shown without a stack trace: message, file, key, hint.
 * Anything else that is thrown is a defect of ours and keeps its stack.
 */
export class EspalierError extends Error {
  readonly exitCode: ExitCode = 1;
  readonly hint: string | undefined;
  readonly file: string | undefined;
  readonly key: string | undefined;

  /**
   * @param code stable identifier, `ESPALIER_<AREA>_<WHAT>`
   * @param message who complains, what was expected, what was given
   */
  constructor(
    readonly code: string,
    message: string,
    details: ErrorDetails = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.hint = details.hint;
    this.file = details.file;
    this.key = details.key;
  }
}

/** Wrong use of the command line, or a definition that cannot be right: exit code 2. */
export class UsageError extends EspalierError {
  override readonly exitCode = 2;
}

/**
 * Says which of the valid names was probably meant: all of them where they are ten or fewer, else the nearest.
 *
 * @example
 * suggest("lvsp", ["lvps", "uniform"]) // 'did you mean "lvps"? One of: lvps, uniform'
 */
export function suggest(given: string, valid: readonly string[]): string {
  if (valid.length === 0) return "there are none";
  const nearest = closest(given, valid);
  const isClose = distance(given, nearest) <= Math.max(2, Math.floor(nearest.length / 2));
  const meant = isClose ? `did you mean "${nearest}"? ` : "";
  if (valid.length <= 10) return `${meant}One of: ${[...valid].sort().join(", ")}`;
  const nearby = [...valid].sort((a, b) => distance(given, a) - distance(given, b)).slice(0, 5);
  return `${meant}The nearest: ${nearby.join(", ")}`;
}

/** {@link UsageError} for a name that is not among the valid ones. */
export function unknownName(
  code: string,
  what: string,
  given: string,
  valid: readonly string[],
  details: ErrorDetails = {},
): UsageError {
  return new UsageError(code, `unknown ${what} "${given}"; ${suggest(given, valid)}`, details);
}
