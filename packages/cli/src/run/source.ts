import { readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { lastCompleteStep } from "@espalier/checkpoints";
import type { JsonObject } from "@espalier/core";
import { definitionHash, type Experiment, type Lock, resolvedDefinition } from "@espalier/experiments";
import { readEvents } from "@espalier/tracking";
import { readLock } from "./run-folder.js";

/**
 * A finished run of the nested definition, beside the run that starts from it or in such a run's own folder: with the same
 * definition, the same sequences, the same source and the same engine. What several runs start from is then trained once.
 *
 * @param folder the run's folder
 * @param lock the lock of the run
 * @returns its folder, or null
 */
export async function finishedSource(nested: Experiment, folder: string, lock: Lock): Promise<string | null> {
  const definition = resolvedDefinition(nested);
  // Other text would have another fingerprint, which is known only once it is prepared.
  if (!sameData(definition, lock.definition)) return null;
  const wanted = hashWithoutName(definition);
  const around = dirname(resolve(folder));
  const names = (await readdir(around).catch((): string[] => [])).sort();
  for (const name of names)
    for (const candidate of [join(around, name), join(around, name, "start")]) {
      const found = await readLock(candidate).catch(() => null);
      if (found === null || hashWithoutName(found.definition) !== wanted) continue;
      if (found.data.fingerprint !== lock.data.fingerprint) continue;
      if (lock.source && found.source?.fingerprint !== lock.source.fingerprint) continue;
      if (found.backend.name !== lock.backend.name || found.backend.device !== lock.backend.device) continue;
      if (await isFinished(candidate)) return candidate;
    }
  return null;
}

// What it is called changes no parameter.
function hashWithoutName(definition: JsonObject): string {
  return definitionHash({ ...definition, name: "" });
}

function sameData(a: JsonObject, b: JsonObject): boolean {
  return JSON.stringify(a.data) === JSON.stringify(b.data);
}

async function isFinished(folder: string): Promise<boolean> {
  const events = await readEvents(folder).catch(() => []);
  return events.some((event) => event.event === "end") && (await lastCompleteStep(folder)) !== null;
}
