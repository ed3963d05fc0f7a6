import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { UsageError } from "@espalier/core";

/** Folders of a run in which no other run is. */
const passedOver = new Set(["checkpoints", "node_modules", ".git"]);
/** How far below a given folder runs are looked for: a sweep's runs and what they started from are two below. */
const deepest = 5;

/**
 * The run folders among the given ones and below them, in the order of their paths.
 *
 * @throws UsageError if a given folder is not there
 */
export async function findRuns(folders: readonly string[]): Promise<readonly string[]> {
  const found = new Set<string>();
  for (const folder of folders) await look(folder, deepest, found);
  return [...found].sort();
}

async function look(folder: string, levels: number, found: Set<string>): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause: NodeJS.ErrnoException) => {
    if (levels < deepest) return [];
    throw new UsageError("ESPALIER_RUN_FOLDER", `"${folder}" cannot be searched for runs`, {
      file: folder,
      hint: "give run folders, or folders that hold some: runs",
      cause,
    });
  });
  const names = new Set(entries.map((entry) => entry.name));
  if (names.has("lock.json") && names.has("metrics.jsonl")) found.add(folder);
  if (levels === 0) return;
  for (const entry of entries)
    if (entry.isDirectory() && !passedOver.has(entry.name) && !entry.name.startsWith("."))
      await look(join(folder, entry.name), levels - 1, found);
}
