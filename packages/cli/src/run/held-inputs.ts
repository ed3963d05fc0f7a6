import { stat } from "node:fs/promises";
import { join } from "node:path";
import { checkpointFiles, lastCompleteStep, stepFolder } from "@espalier/checkpoints";
import type { SourceModel } from "@espalier/experiments";
import { readLock } from "./run-folder.js";

/** What a run that is continued holds itself of what it was started from, which may be gone by then. */
export interface HeldInputs {
  /** The model of the checkpoint at its start. */
  readonly source?: SourceModel;
  /** The `tokenizer.json` of its last checkpoint. */
  readonly tokenizerFile?: string;
}

/**
 * Reads what a run holds; nothing where there is none yet.
 *
 * @throws EspalierError ESPALIER_RUN_INVALID for a damaged lock
 */
export async function inputsHeldBy(run: string): Promise<HeldInputs> {
  if (!(await isThere(join(run, "lock.json")))) return {};
  const { source } = await readLock(run);
  const tokenizerFile = await ownTokenizer(run);
  return { ...(source ? { source } : {}), ...(tokenizerFile === null ? {} : { tokenizerFile }) };
}

/** The run's own, or, before its first checkpoint, that of the nested run that it starts from. */
async function ownTokenizer(run: string): Promise<string | null> {
  for (let folder = run; await isThere(join(folder, "lock.json")); folder = join(folder, "start")) {
    const step = await lastCompleteStep(folder);
    if (step === null) continue;
    const file = join(stepFolder(folder, step), checkpointFiles.tokenizer);
    return (await isThere(file)) ? file : null;
  }
  return null;
}

/**
 * A tokenizer's path where the tokenizer is there, else the run's own copy. Whether that is the same one, the sequences'
 * fingerprint says.
 *
 * @param path of a `tokenizer.json`, or of its folder
 */
export async function tokenizerToRead(path: string, { tokenizerFile }: HeldInputs): Promise<string> {
  if (tokenizerFile === undefined) return path;
  const found = await stat(path).catch(() => null);
  const isFound = found?.isDirectory()
    ? await isThere(join(path, checkpointFiles.tokenizer))
    : found !== null;
  return isFound ? path : tokenizerFile;
}

async function isThere(file: string): Promise<boolean> {
  return (await stat(file).catch(() => null)) !== null;
}
