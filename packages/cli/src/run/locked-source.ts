import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { checkpointFiles, readFailure } from "@espalier/checkpoints";
import { canonicalJson, EspalierError, type Json } from "@espalier/core";
import type { Experiment, LockedSource, PluginRegistry } from "@espalier/experiments";
import { spentOnCheckpoint } from "@espalier/trainer";
import { openModel } from "../checkpoint-model.js";

/** The experiment itself, or the nested one, that starts from a checkpoint; null where none does. */
export function experimentAtCheckpoint(experiment: Experiment): Experiment | null {
  const { start } = experiment;
  if (start.kind === "experiment") return experimentAtCheckpoint(start.experiment);
  return start.kind === "checkpoint" ? experiment : null;
}

/**
 * A checkpoint as it is now. Reads all of its weights.
 *
 * @param path a run, step or Hugging Face folder
 */
export async function lockSource(path: string, registry: PluginRegistry): Promise<LockedSource> {
  const { checkpoint, config } = await openModel(path, registry);
  try {
    const { folder, state } = checkpoint;
    return { folder, fingerprint: await fingerprintOf(folder), config, flops: spentOnCheckpoint(state) };
  } finally {
    await checkpoint.close();
  }
}

/** The source of an experiment, or of the nested one that it starts from, as it is now; null where there is none. */
export async function lockSourceOf(experiment: Experiment): Promise<LockedSource | null> {
  const first = experimentAtCheckpoint(experiment);
  return first?.start.kind === "checkpoint" ? lockSource(first.start.path, first.registry) : null;
}

/**
 * Refuses to begin from other weights than those that the run was started with: its first steps would belong to them.
 *
 * @param file the lock's path, for the message
 * @throws EspalierError ESPALIER_RESUME_SOURCE
 */
export function refuseOtherSource(before: LockedSource, now: LockedSource, file: string): void {
  const keys = ["fingerprint", "config", "flops"] as const;
  const key = keys.find((candidate) => shown(before[candidate]) !== shown(now[candidate]));
  if (key === undefined) return;
  throw new EspalierError(
    "ESPALIER_RESUME_SOURCE",
    `the checkpoint that the run starts from has changed since the run was started, and the run has none of its own yet: ${names[key]} expected ${shown(before[key])} (${before.folder}), found ${shown(now[key])} (${now.folder})`,
    { file, key: `source.${key}`, hint: "bring the old checkpoint back, or give another --out" },
  );
}

const names = {
  fingerprint: "SHA-256 of its weights",
  config: "model",
  flops: "FLOPs that it took to train",
} as const;

function shown(value: LockedSource[keyof typeof names]): string {
  if (typeof value === "string") return value;
  // Optional keys that are undefined do not stand in the lock.
  return canonicalJson(JSON.parse(JSON.stringify(value)) as Json);
}

/** The hash of what `sha256sum` prints of the folder's safetensors files in the order of their names. */
async function fingerprintOf(folder: string): Promise<string> {
  const lines = createHash("sha256");
  for (const name of await weightFiles(folder))
    lines.update(`${await sha256Of(join(folder, name))}  ${name}\n`);
  return lines.digest("hex");
}

/** Names of the files with weights and moments, as {@link openModel} reads them. */
async function weightFiles(folder: string): Promise<string[]> {
  const isThere = async (name: string): Promise<boolean> =>
    (await stat(join(folder, name)).catch(() => null)) !== null;
  const files: string[] = (await isThere(checkpointFiles.model))
    ? [checkpointFiles.model]
    : await shardsOf(folder);
  if (await isThere(checkpointFiles.optimizer)) files.push(checkpointFiles.optimizer);
  return files.sort();
}

async function shardsOf(folder: string): Promise<string[]> {
  // Opening the checkpoint has checked it.
  const index = JSON.parse(await readFile(join(folder, checkpointFiles.shards), "utf8")) as {
    readonly weight_map: Readonly<Record<string, string>>;
  };
  return [...new Set(Object.values(index.weight_map))];
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    for await (const piece of createReadStream(file, { highWaterMark: 2 ** 20 }))
      hash.update(piece as Buffer);
  } catch (cause) {
    throw readFailure(file, cause);
  }
  return hash.digest("hex");
}
