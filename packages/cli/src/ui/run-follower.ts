import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { EspalierError } from "@espalier/core";
import type { ConnectionOptions } from "@espalier/mlflow-js-client";
import type { CheckpointArtifacts, MlflowDelivery } from "@espalier/tracking";
import { findRuns } from "../tracking/find-runs.js";
import {
  finishRecordedDelivery,
  type SyncedRun,
  startRecordedDelivery,
  statusOf,
  syncRun,
} from "../tracking/sync-runs.js";

/** Between two looks for new runs, and at whether those that train have ended. */
const lookSeconds = 2;
/** A run that delivers itself makes its run on the server first, in this time. */
const settleSeconds = 5;
/** Before a run that could not be brought whole is tried again, though nothing in its folder has changed. */
const retrySeconds = 60;
const watched = ["lock.json", "metrics.jsonl", "events.jsonl", "system.jsonl"];

/** What is known of a run folder. */
type Known =
  /** It trains, and is followed. */
  | { readonly state: "live"; readonly delivery: MlflowDelivery }
  /** All is there that the folder had when it looked so. */
  | { readonly state: "done"; readonly look: string }
  /** Something is wrong with it, or with the server. */
  | { readonly state: "failed"; readonly look: string; readonly again: number };

/** Brings the runs under some folders to a server, and what comes after: new runs, and what those that train write. */
export class RunFollower {
  readonly #known = new Map<string, Known>();
  readonly #said = new Map<string, string>();

  /**
   * @param folders run folders, or folders that hold some
   * @param checkpoints which ones are sent; default: what each run's definition says
   * @param note is given a line for each run that begins, ends, or cannot be brought
   */
  constructor(
    readonly folders: readonly string[],
    readonly connection: ConnectionOptions,
    readonly checkpoints: CheckpointArtifacts | undefined,
    readonly note: (line: string) => void,
  ) {}

  /**
   * Brings all runs that are there, one after the other. One that is damaged keeps no other out.
   *
   * @param onRun is called before each
   * @throws UsageError if a folder is not there
   */
  async bring(
    signal: AbortSignal,
    onRun: (done: number, all: number) => void,
  ): Promise<readonly SyncedRun[]> {
    const folders = await findRuns(this.folders);
    const brought: SyncedRun[] = [];
    for (const [index, folder] of folders.entries()) {
      signal.throwIfAborted();
      onRun(index, folders.length);
      const run = await this.#bring(folder);
      if (run !== null) brought.push(run);
    }
    return brought;
  }

  /** Follows until the signal comes. Never rejects. */
  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for (const folder of await findRuns(this.folders)) {
          if (signal.aborted) break;
          await this.#look(folder);
        }
      } catch (error) {
        this.#say("", reasonOf(error));
      }
      await wait(lookSeconds * 1000, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Sends what is there of the runs that train, and leaves them open: they go on without us. */
  async close(): Promise<void> {
    await Promise.all(
      [...this.#known.values()].map(async (known) => {
        if (known.state === "live") await known.delivery.finish("RUNNING", { withinSeconds: 5 });
      }),
    );
    this.#known.clear();
  }

  async #look(folder: string): Promise<void> {
    const known = this.#known.get(folder);
    try {
      const look = await lookOf(folder);
      if (known?.state === "live") {
        const status = await statusOf(folder);
        if (status !== "RUNNING")
          this.#settle(await finishRecordedDelivery(folder, known.delivery, status), look);
        return;
      }
      if (known?.state === "done" && known.look === look) return;
      if (known?.state === "failed" && known.look === look && Date.now() < known.again) return;
      if ((await statusOf(folder)) !== "RUNNING") await this.#bring(folder);
      else if (known !== undefined || (await secondsOld(folder)) >= settleSeconds) await this.#start(folder);
    } catch (error) {
      await this.#failed(folder, error);
    }
  }

  async #start(folder: string): Promise<void> {
    const delivery = await startRecordedDelivery(
      folder,
      this.connection,
      this.#noteOf(folder),
      this.checkpoints,
    );
    this.#known.set(folder, { state: "live", delivery });
    this.#say(folder, "training, followed live");
  }

  /** Brings what there is at the moment. `null` if the folder cannot be read. */
  async #bring(folder: string): Promise<SyncedRun | null> {
    try {
      const look = await lookOf(folder);
      const run = await syncRun(folder, this.connection, () => undefined, this.checkpoints);
      if (run.status === "RUNNING" && run.complete) await this.#start(folder);
      else this.#settle(run, look);
      return run;
    } catch (error) {
      await this.#failed(folder, error);
      return null;
    }
  }

  #settle(run: SyncedRun, look: string): void {
    this.#known.set(
      run.folder,
      run.complete
        ? { state: "done", look }
        : { state: "failed", look, again: Date.now() + retrySeconds * 1000 },
    );
    this.#say(run.folder, run.complete ? run.status.toLowerCase() : `not brought whole: ${run.problem}`);
  }

  async #failed(folder: string, error: unknown): Promise<void> {
    const look = await lookOf(folder).catch(() => "");
    this.#known.set(folder, { state: "failed", look, again: Date.now() + retrySeconds * 1000 });
    this.#say(folder, `not brought: ${reasonOf(error)}`);
  }

  #noteOf(folder: string): (line: string) => void {
    return (line) => {
      // Where it can be seen is told for all runs together.
      if (!line.startsWith("MLflow: http")) this.#say(folder, line);
    };
  }

  /** The same again helps nobody. */
  #say(folder: string, line: string): void {
    if (this.#said.get(folder) === line) return;
    this.#said.set(folder, line);
    this.note(folder === "" ? line : `${folder}: ${line}`);
  }
}

/** Changes whenever the run has written something. */
async function lookOf(folder: string): Promise<string> {
  const looks = await Promise.all(
    watched.map(async (name) => {
      const found = await stat(join(folder, name)).catch(() => null);
      return found === null ? "-" : `${found.size} ${found.mtimeMs}`;
    }),
  );
  return looks.join(", ");
}

async function secondsOld(folder: string): Promise<number> {
  const { birthtimeMs, mtimeMs } = await stat(join(folder, "lock.json"));
  return (Date.now() - Math.min(birthtimeMs || mtimeMs, mtimeMs)) / 1000;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const place = error instanceof EspalierError && error.file !== undefined ? ` (${error.file})` : "";
  const hint = error instanceof EspalierError && error.hint !== undefined ? `; ${error.hint}` : "";
  return `${error.message}${place}${hint}`;
}
