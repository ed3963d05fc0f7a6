import { MlflowInputError } from "./errors.js";

/**
 * A clause for searches of runs and experiments: `` tags.`espalier.runId` = 'r-123' ``.
 *
 * @throws MlflowInputError where the server's language cannot say it: it has no escape for quotes
 */
export function tagEquals(key: string, value: string): string {
  if (key.includes("`"))
    throw new MlflowInputError(`tag "${key}" cannot be searched: it has a backtick`, "key");
  if (!value.includes("'")) return `tags.\`${key}\` = '${value}'`;
  if (!value.includes('"')) return `tags.\`${key}\` = "${value}"`;
  throw new MlflowInputError(
    `tag ${key} cannot be searched for ${value}: it has both kinds of quotes`,
    "value",
  );
}
