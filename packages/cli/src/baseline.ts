import { basename, resolve } from "node:path";
import { UsageError } from "@espalier/core";

/**
 * The runs to compare, and the index of the baseline among them: the first, or the one that is named (which joins them
 * where it is missing).
 *
 * @throws UsageError if there is nothing to compare
 */
export function baselineAmong(
  folders: readonly string[],
  baseline: string | undefined,
): { readonly all: readonly string[]; readonly baseline: number } {
  const paths = folders.map((folder) => resolve(folder));
  // A run is named by its folder's path, or by the folder's name alone.
  const named = paths.find((path) => basename(path) === baseline);
  const wanted = baseline === undefined ? paths[0]! : (named ?? resolve(baseline));
  const all = paths.includes(wanted) ? [...folders] : [baseline!, ...folders];
  if (all.length < 2)
    throw new UsageError("ESPALIER_COMPARE_ONE_RUN", `there is only one run to compare, "${all[0]}"`, {
      hint: "name two runs or more",
    });
  return { all, baseline: all.map((folder) => resolve(folder)).indexOf(wanted) };
}
