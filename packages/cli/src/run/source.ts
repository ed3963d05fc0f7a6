import { readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { lastCompleteStep, openCheckpoint } from "@espalier/checkpoints";
import { type JsonObject, UsageError } from "@espalier/core";
import type { TextTokenizer } from "@espalier/data";
import { definitionHash, type Experiment, type Lock, resolvedDefinition } from "@espalier/experiments";
import { readEvents } from "@espalier/tracking";
import { readTokenizer } from "../read-tokenizer.js";
import { readLock } from "./run-folder.js";

/**
 * A finished run of the nested definition, beside the run that starts from it or in such a run's own folder: with the same
 * definition, the same sequences and the same engine. What several runs start from is then trained once.
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

/**
 * Refuses a checkpoint whose tokens mean something else than the run's: its embeddings would belong to other words.
 *
 * @throws UsageError ESPALIER_SOURCE_TOKENIZER if the source has no tokenizer and the definition names none that exists, or
 * its tokenizer is another one
 */
export async function refuseOtherTokenizer(experiment: Experiment, tokenizer: TextTokenizer): Promise<void> {
  const { start, definition, locate } = experiment;
  if (start.kind !== "checkpoint") return;
  const checkpoint = await openCheckpoint(start.path);
  await checkpoint.close();
  const { tokenizerFile } = checkpoint;
  if (tokenizerFile === null) {
    if (definition.data.tokenizer.kind === "file") return;
    throw new UsageError(
      "ESPALIER_SOURCE_TOKENIZER",
      `the source ${checkpoint.folder} has no tokenizer.json, and the text must be encoded as it was for the source; a tokenizer that is trained anew (data.tokenizer.kind: ${definition.data.tokenizer.kind}) gives other tokens`,
      {
        file: locate(["data", "tokenizer"]),
        key: "data.tokenizer",
        hint: "put the source's tokenizer.json into its folder, or name it: data.tokenizer: { kind: file, path: … }",
      },
    );
  }
  const expected = (await readTokenizer(tokenizerFile)).fingerprint;
  if (expected === tokenizer.fingerprint) return;
  const named = definition.data.tokenizer;
  const found =
    named.kind === "file"
      ? resolve(experiment.loaded.source.baseDirectory, named.path)
      : `a ${named.kind} tokenizer trained on its text`;
  throw new UsageError(
    "ESPALIER_SOURCE_TOKENIZER",
    `the source's embeddings would belong to other tokens: the source's tokenizer is ${tokenizerFile} (${short(expected)}), the run's ${found} (${short(tokenizer.fingerprint)})`,
    {
      file: locate(["data", "tokenizer"]),
      key: "data.tokenizer",
      hint: `set data.tokenizer: { kind: file, path: ${tokenizerFile} }`,
    },
  );
}

function short(fingerprint: string): string {
  return fingerprint.slice(0, 12);
}
