import { stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { DefinitionSource } from "@espalier/experiments";
import { readLock } from "./run-folder.js";

/**
 * The resolved definition of the run that a checkpoint (the run's folder, or one of its steps) belongs to, if it does. What
 * it names by relative paths (corpora, tokenizers, plugins) is looked up where the definition itself was.
 */
export async function definitionOfRun(checkpoint: string): Promise<DefinitionSource | null> {
  const path = resolve(checkpoint);
  for (const folder of [path, dirname(path), dirname(dirname(path))]) {
    const file = join(folder, "lock.json");
    if (!(await stat(file).catch(() => null))) continue;
    const lock = await readLock(folder);
    const definitionFile = resolve(lock.definitionFile);
    return {
      file: definitionFile,
      baseDirectory: dirname(definitionFile),
      text: JSON.stringify(lock.definition),
      value: lock.definition,
      locate: () => file,
    };
  }
  return null;
}
