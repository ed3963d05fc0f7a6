import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { JsonObject } from "@espalier/core";
import type { ConnectionOptions } from "@espalier/mlflow-js-client";
import { journalFiles, MlflowDelivery, readEvents, userName } from "@espalier/tracking";
import { readLock } from "../run/run-folder.js";
import { describeRun, runArtifacts } from "./describe-run.js";
import { plotRun } from "./plot-run.js";

/** What became of a run. */
export interface SyncedRun {
  readonly folder: string;
  readonly status: "FINISHED" | "FAILED" | "KILLED" | "RUNNING";
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
 * @throws EspalierError for a folder that is no run's
 */
export async function syncRun(
  folder: string,
  connection: ConnectionOptions,
  note: (line: string) => void,
): Promise<SyncedRun> {
  const lock = await readLock(folder);
  const { experiment, checkpoints } = (lock.definition.tracking ?? {}) as JsonObject;
  const status = await statusOf(folder);
  if (status !== "RUNNING") await plotRun(folder);
  const delivery = MlflowDelivery.start({
    folder,
    connection,
    experiment: typeof experiment === "string" ? experiment : lock.name,
    run: describeRun(lock, await ownerTag(folder)),
    artifacts: runArtifacts,
    checkpoints: checkpoints === "none" || checkpoints === "all" ? checkpoints : "last",
    note,
  });
  const { isComplete, url, problem } = await delivery.finish(status, { withinSeconds: 60 });
  return { folder, status, url, complete: isComplete, problem };
}

/** How a run ended, from its events; one that says nothing and is silent was killed. */
async function statusOf(folder: string): Promise<SyncedRun["status"]> {
  const last = (await readEvents(folder)).at(-1)?.event;
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
