import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { JsonObject } from "@espalier/core";
import { isUnfinished, writeFolderDurably, writeTextDurably } from "./durable-files.js";
import { systemCode, writeFailure } from "./file-failures.js";
import { openSafetensors } from "./safetensors-reader.js";
import { type TensorToWrite, writeSafetensors } from "./safetensors-writer.js";

/** The files of a checkpoint folder. `state` and `optimizer` are ours, the rest is Hugging Face's layout. */
export const checkpointFiles = {
  model: "model.safetensors",
  shards: "model.safetensors.index.json",
  optimizer: "optimizer.safetensors",
  state: "state.json",
  config: "config.json",
  tokenizer: "tokenizer.json",
} as const;

/** What a checkpoint folder is made of. */
export interface CheckpointContent {
  /** Parameters under Hugging Face's names. */
  readonly model: readonly TensorToWrite[];
  /** Moments and step counts; null for weights alone. */
  readonly optimizer: readonly TensorToWrite[] | null;
  /** Position of the run; null outside of one. */
  readonly state: JsonObject | null;
  /** Hugging Face's config. */
  readonly config: JsonObject;
  /** Content of `tokenizer.json`, where there is one. */
  readonly tokenizerJson?: string;
  /** Further files that Hugging Face's library reads, by name: `tokenizer_config.json`, `generation_config.json`. */
  readonly companions?: { readonly [file: string]: JsonObject };
}

/**
 * Writes a checkpoint folder: under a temporary name, every file and the folder fsynced, then renamed.
 *
 * @param existing what to do about a folder that is there already (default: refuse it)
 * @throws UsageError ESPALIER_FOLDER_EXISTS
 * @throws EspalierError ESPALIER_DISK_FULL, ESPALIER_NO_PERMISSION, …; nothing half-written is left behind
 */
export async function writeCheckpointFolder(
  path: string,
  content: CheckpointContent,
  existing: "refuse" | "replace" = "refuse",
): Promise<void> {
  await writeFolderDurably(path, checkpointFiles.model, existing, async (folder) => {
    for (const [file, json] of Object.entries({
      [checkpointFiles.config]: content.config,
      ...content.companions,
    }))
      await writeTextDurably(join(folder, file), `${JSON.stringify(json, null, 2)}\n`);
    if (content.tokenizerJson !== undefined)
      await writeTextDurably(join(folder, checkpointFiles.tokenizer), content.tokenizerJson);
    await writeSafetensors(join(folder, checkpointFiles.model), content.model);
    if (content.optimizer !== null)
      await writeSafetensors(join(folder, checkpointFiles.optimizer), content.optimizer);
    if (content.state !== null)
      await writeTextDurably(
        join(folder, checkpointFiles.state),
        `${JSON.stringify(content.state, null, 2)}\n`,
      );
  });
}

/** The folder of a step within a run. */
export function stepFolder(runFolder: string, step: number): string {
  return join(runFolder, "checkpoints", `step-${step}`);
}

/**
 * Writes the checkpoint of a step, then removes all but the newest `keep` ones.
 *
 * @returns the step's folder
 * @throws EspalierError as {@link writeCheckpointFolder}; older checkpoints are untouched then
 */
export async function writeStep(
  runFolder: string,
  step: number,
  content: CheckpointContent,
  keep: number,
): Promise<string> {
  const path = stepFolder(runFolder, step);
  await writeCheckpointFolder(path, content, "replace");
  const older = (await listSteps(runFolder)).filter((candidate) => candidate < step);
  for (const obsolete of older.slice(0, Math.max(0, older.length - (Math.max(1, keep) - 1))))
    await rm(stepFolder(runFolder, obsolete), { recursive: true, force: true });
  return path;
}

/** The steps that have a folder in a run, ascending; none if there are no checkpoints. */
export async function listSteps(runFolder: string): Promise<number[]> {
  const names = await readdir(join(runFolder, "checkpoints")).catch((error) => {
    if (systemCode(error) === "ENOENT" || systemCode(error) === "ENOTDIR") return [];
    throw error;
  });
  return names
    .map((name) => /^step-(\d+)$/.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
}

/**
 * The last step of a run whose folder is complete: every file there, headers sound, no data cut off. Null if none is.
 */
export async function lastCompleteStep(runFolder: string): Promise<number | null> {
  for (const step of (await listSteps(runFolder)).reverse())
    if (await isCompleteStep(stepFolder(runFolder, step))) return step;
  return null;
}

/**
 * Removes what an interrupted writer left in a run's `checkpoints/`, and step folders later than the given step (which
 * were incomplete, or they would have been resumed from). Only for the process that owns the run.
 */
export async function cleanCheckpoints(runFolder: string, lastStep: number | null): Promise<void> {
  const folder = join(runFolder, "checkpoints");
  try {
    await mkdir(folder, { recursive: true });
    for (const name of await readdir(folder))
      if (isUnfinished(name)) await rm(join(folder, name), { recursive: true, force: true });
    for (const step of await listSteps(runFolder))
      if (step > (lastStep ?? -1)) await rm(stepFolder(runFolder, step), { recursive: true, force: true });
  } catch (error) {
    throw writeFailure(folder, error);
  }
}

async function isCompleteStep(folder: string): Promise<boolean> {
  for (const file of [checkpointFiles.config, checkpointFiles.state])
    if (!(await stat(join(folder, file)).catch(() => null))?.isFile()) return false;
  for (const file of [checkpointFiles.model, checkpointFiles.optimizer]) {
    const source = await openSafetensors(join(folder, file)).catch(() => null);
    if (source === null) return false;
    await source.close();
  }
  return true;
}
