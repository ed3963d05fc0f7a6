import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { JsonObject } from "@espalier/core";
import type { ConnectionOptions } from "@espalier/mlflow-js-client";
import {
  type CheckpointArtifacts,
  endingOf,
  journalFiles,
  MlflowDelivery,
  readEvents,
  userName,
} from "@espalier/tracking";
import { readLock } from "../run/run-folder.js";
import { describeRun, runArtifacts } from "./describe-run.js";
import { plotRun } from "./plot-run.js";

/** How a run stands, in MLflow's words. */
export type SyncStatus = "FINISHED" | "FAILED" | "KILLED" | "RUNNING";

/** What became of a run. */
export interface SyncedRun {
  readonly folder: string;
  readonly status: SyncStatus;
  /** Where MLflow shows it; `null` if it did not get there. */
  readonly url: string | null;
  readonly complete: boolean;
  readonly problem: string | null;
}

/** A journal that was written to this recently belongs to a run that is still training. */
const silentMilliseconds = 120_000;

/**
 * Sends what a run folder recorded to an MLflow server, each point once, with its files and how it ended.
 *
 * @param note is given lines about what goes wrong
 * @param checkpoints which ones are sent; default: what the run's definition says
 * @throws EspalierError for a folder that is no run's
 */
export async function syncRun(
  folder: string,
  connection: ConnectionOptions,
  note: (line: string) => void,
  checkpoints?: CheckpointArtifacts,
): Promise<SyncedRun> {
  const status = await statusOf(folder);
  const delivery = await startRecordedDelivery(folder, connection, note, checkpoints);
  return finishRecordedDelivery(folder, delivery, status);
}

/**
 * Begins to deliver a run from its folder alone, and follows it from there. As {@link syncRun}.
 *
 * @throws EspalierError for a folder that is no run's
 */
export async function startRecordedDelivery(
  folder: string,
  connection: ConnectionOptions,
  note: (line: string) => void,
  checkpoints?: CheckpointArtifacts,
): Promise<MlflowDelivery> {
  const lock = await readLock(folder);
  const { experiment, checkpoints: defined } = (lock.definition.tracking ?? {}) as JsonObject;
  return MlflowDelivery.start({
    folder,
    connection,
    experiment: typeof experiment === "string" ? experiment : lock.name,
    run: describeRun(lock, await ownerTag(folder)),
    artifacts: runArtifacts,
    checkpoints: checkpoints ?? (defined === "none" || defined === "all" ? defined : "last"),
    note,
  });
}

/** Sends the rest: what is only known at the end, too, unless the run is `RUNNING` and goes on. */
export async function finishRecordedDelivery(
  folder: string,
  delivery: MlflowDelivery,
  status: SyncStatus,
): Promise<SyncedRun> {
  if (status !== "RUNNING") await plotRun(folder);
  const { isComplete, url, problem } = await delivery.finish(status, { withinSeconds: 60 });
  return { folder, status, url, complete: isComplete, problem };
}

/**
 * How a run ended, from its events; one that says nothing and is silent was killed.
 *
 * @throws EspalierError if its events cannot be read
 */
export async function statusOf(folder: string): Promise<SyncStatus> {
  const last = endingOf(await readEvents(folder))?.event;
  if (last === "end") return "FINISHED";
  if (last === "diverged") return "FAILED";
  if (last === "interrupted") return "KILLED";
  const { mtimeMs } = await stat(join(folder, journalFiles.metrics));
  return Date.now() - mtimeMs < silentMilliseconds ? "RUNNING" : "KILLED";
}

/** Whoever owns the folder ran the run; another user's name is not for us to give. */
async function ownerTag(folder: string): Promise<Record<string, string>> {
  const { uid } = await stat(folder);
  return process.getuid?.() === uid ? { "mlflow.user": userName() } : {};
}
