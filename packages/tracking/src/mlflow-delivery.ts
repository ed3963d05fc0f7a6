import { existsSync } from "node:fs";
import { join } from "node:path";
import { EspalierError } from "@espalier/core";
import {
  type CallOptions,
  type ConnectionOptions,
  MlflowApiError,
  MlflowAuthenticationError,
  MlflowClient,
  MlflowConnectionError,
  MlflowError,
  MlflowNotFoundError,
  MlflowResponseError,
  type Run,
  type RunStatus,
} from "@espalier/mlflow-js-client";
import { type Delivered, writeDelivered } from "./delivered-position.js";
import { journalFiles, readEvents } from "./journal.js";
import { type JournalPart, readJournal, startOfJournal } from "./journal-file.js";
import { checkpointFiles, growthFile, growthMapFiles, sendArtifacts } from "./mlflow-artifacts.js";
import type { ArtifactFile, CheckpointArtifacts, MlflowRunDescription } from "./mlflow-description.js";
import { longParams, longParamsFile, shorten } from "./mlflow-names.js";
import { mlflowBatch, systemMetrics } from "./mlflow-records.js";
import { attachRun } from "./mlflow-run.js";
import { settleParent } from "./parent-run.js";
import { runEventSchema, stepMetricsSchema } from "./records.js";
import { endingOf } from "./run-ending.js";
import { runNote } from "./run-note.js";
import { SystemMonitor, type SystemSample, systemFile, systemSampleSchema } from "./system-metrics.js";

/** How a run is delivered. */
export interface MlflowDeliveryOptions {
  /** The run folder, with a journal. */
  readonly folder: string;
  /** From {@link trackingTarget}. */
  readonly connection: ConnectionOptions;
  /** Name of the MLflow experiment; made if there is none. */
  readonly experiment: string;
  readonly run: MlflowRunDescription;
  /** Files of the run folder that become artifacts, when they are there and whenever they have changed. */
  readonly artifacts?: readonly ArtifactFile[];
  /** Default: none. */
  readonly checkpoints?: CheckpointArtifacts;
  /** Measure the machine meanwhile, this often. Default: not at all. */
  readonly systemMetricsEverySeconds?: number;
  /** Is given one line at a time: where the run can be seen, and what goes wrong. */
  readonly note?: (line: string) => void;
  /** Seconds between two looks at the journal. Default 1. */
  readonly everySeconds?: number;
  /** Seconds before the first new attempt after a failure; doubled up to ten seconds. Default 2. */
  readonly retrySeconds?: number;
}

/** How a delivery ended. */
export interface DeliveryResult {
  /** Whether the server has the whole journal, and the run's status. */
  readonly isComplete: boolean;
  /** Where MLflow shows the run; `null` if it never got there. */
  readonly url: string | null;
  /** What was wrong, if anything was. */
  readonly problem: string | null;
}

/** About 80 steps, that is 800 metrics: a request's worth. */
const bytesAtOnce = 24 * 1024;
const longestRetrySeconds = 10;
/** Characters of what a server said: some say whole SQL statements. */
const longestNote = 300;
/** How often the end tries a server that is not there, before it leaves the rest for later. */
const lastAttempts = 3;

/**
 * Brings a run's journal to an MLflow server in the background: it follows the journal's files and sends what is new,
 * in batches. It never blocks a step and never fails a run. What a slow or dead server did not take stays in the
 * journal and is sent when it is back, at the end, or by the next delivery of the same folder.
 *
 * Each point arrives once: it is sent with the journal's own time, and servers keep an identical point once. How far
 * a server has got is noted in the run folder's `mlflow.json`.
 *
 * @example
 * const { connection } = trackingTarget("auto");
 * const delivery = connection && MlflowDelivery.start({ folder, connection, experiment: "apollo", run });
 * // … train …
 * await delivery?.finish("FINISHED");
 */
export class MlflowDelivery {
  readonly #client: MlflowClient;
  readonly #end = new AbortController();
  readonly #loop: Promise<void>;
  #run: Run | undefined;
  #delivered: Delivered | undefined;
  #monitor: SystemMonitor | undefined;
  #isEnding = false;
  #sendsArtifacts = true;
  #limit: NodeJS.Timeout | undefined;
  #final: { status: RunStatus; time: number } | undefined;
  #isComplete = false;
  #problem: string | null = null;
  #noted = "";
  #wake: (() => void) | undefined;

  private constructor(readonly options: MlflowDeliveryOptions) {
    const { connection } = options;
    this.#client = new MlflowClient({
      ...connection,
      timeoutSeconds: connection.timeoutSeconds ?? 30,
      // The loop tries again by itself.
      retries: 1,
    });
    this.#loop = this.#follow().catch((error: unknown) => {
      this.#problem = error instanceof Error ? error.message : String(error);
    });
  }

  /** Begins to deliver, and returns at once. @throws MlflowInputError if the address is not http(s) */
  static start(options: MlflowDeliveryOptions): MlflowDelivery {
    return new MlflowDelivery(options);
  }

  /** Where MLflow shows the run; `null` as long as it is not there. */
  get url(): string | null {
    if (this.#delivered === undefined) return null;
    const { experimentId, runId } = this.#delivered;
    // MLflow 3 takes runs for evaluations of GenAI unless told; MLflow 2 passes over it.
    return `${this.#client.address}/#/experiments/${experimentId}/runs/${runId}?workflowType=machine_learning`;
  }

  /**
   * Sends the rest of the journal, the artifacts and the run's status. Close or flush the journal before. Never rejects.
   *
   * @param status how the run ended; `RUNNING` leaves it open, for another delivery
   * @param options `withinSeconds`: how long nothing may get through before the rest is left for later (default 20);
   * `time`: when the run ended, in milliseconds since the epoch (default: now)
   */
  async finish(
    status: Extract<RunStatus, "FINISHED" | "FAILED" | "KILLED" | "RUNNING">,
    {
      withinSeconds = 20,
      time = Date.now(),
    }: { readonly withinSeconds?: number; readonly time?: number } = {},
  ): Promise<DeliveryResult> {
    const monitor = this.#monitor;
    this.#monitor = undefined;
    this.#isEnding = true;
    await monitor?.stop();
    this.#final ??= { status, time };
    this.#limit = setTimeout(() => this.#end.abort(), withinSeconds * 1000);
    this.#wake?.();
    await this.#loop;
    clearTimeout(this.#limit);
    this.#client.close();
    if (!this.#isComplete) {
      this.#problem ??= `${this.#client.address} did not take everything within ${withinSeconds} seconds`;
      this.#note(
        `MLflow has not got all of this run (${shorten(this.#problem, longestNote)}); it is in the journal, and espalier sync or --resume sends the rest`,
      );
    }
    return { isComplete: this.#isComplete, url: this.url, problem: this.#isComplete ? null : this.#problem };
  }

  async #follow(): Promise<void> {
    const { everySeconds = 1, retrySeconds = 2 } = this.options;
    await this.#startMonitor();
    let failures = 0;
    let failuresAtEnd = 0;
    while (!this.#end.signal.aborted) {
      const isLast = this.#final !== undefined;
      try {
        const hasMore = await this.#deliver();
        failures = 0;
        this.#limit?.refresh();
        this.#recovered();
        if (hasMore) continue;
        if (isLast && this.#final !== undefined) {
          await this.#conclude(this.#final);
          this.#isComplete = true;
          return;
        }
        if (this.#final === undefined) await this.#sleep(everySeconds);
      } catch (error) {
        if (this.#end.signal.aborted) return;
        this.#failed(error);
        failures++;
        if (isLast && (!mayPass(error) || ++failuresAtEnd >= lastAttempts)) return;
        const seconds = Math.min(longestRetrySeconds, retrySeconds * 2 ** (failures - 1));
        await this.#sleep(isLast ? Math.min(0.5, seconds) : seconds);
      }
    }
  }

  async #startMonitor(): Promise<void> {
    const { folder, systemMetricsEverySeconds } = this.options;
    if (systemMetricsEverySeconds === undefined) return;
    try {
      const { entries } = await readSystem(folder, startOfJournal, Number.POSITIVE_INFINITY);
      if (this.#isEnding) return;
      this.#monitor = SystemMonitor.start(
        folder,
        (entries.at(-1)?.sample ?? -1) + 1,
        systemMetricsEverySeconds,
      );
    } catch (error) {
      this.#note(`no system metrics: ${error instanceof Error ? error.message : error}`);
    }
  }

  /** Sends one part of the journal. Answers whether there may be more at once. */
  async #deliver(): Promise<boolean> {
    const { run, delivered } = await this.#attach();
    const { folder } = this.options;
    const [steps, events, system] = await Promise.all([
      readJournal(join(folder, journalFiles.metrics), stepMetricsSchema, delivered.metrics, bytesAtOnce),
      readJournal(join(folder, journalFiles.events), runEventSchema, delivered.events, bytesAtOnce),
      readSystem(folder, delivered.system, bytesAtOnce),
    ]);
    const isNew =
      steps.end.byte !== delivered.metrics.byte ||
      events.end.byte !== delivered.events.byte ||
      system.end.byte !== delivered.system.byte;
    if (!isNew) return false;
    const batch = mlflowBatch(steps.entries, events.entries);
    try {
      const metrics = [...(batch.metrics ?? []), ...systemMetrics(system.entries)];
      await this.#client.logBatch(run.runId, { ...batch, metrics }, this.#call);
    } catch (error) {
      if (error instanceof MlflowNotFoundError) this.#forget();
      throw error;
    }
    await this.#remember({ metrics: steps.end, events: events.end, system: system.end });
    const kinds = new Set(events.entries.map(({ event }) => event));
    if (kinds.has("growth")) await this.#sendGrowth(run);
    if (kinds.has("checkpoint") && this.options.checkpoints === "all") await this.#sendFiles(run, "all");
    return true;
  }

  /** The run on the server, once it is known, and how far it got. */
  async #attach(): Promise<{ run: Run; delivered: Delivered }> {
    if (this.#run !== undefined && this.#delivered !== undefined)
      return { run: this.#run, delivered: this.#delivered };
    const { folder, experiment, run: description } = this.options;
    const attached = await attachRun(this.#client, folder, experiment, description, this.#call);
    this.#run = attached.run;
    this.#delivered = attached.delivered;
    await this.#remember({});
    this.#note(`MLflow: ${this.url}`);
    const long = longParams(description.definition);
    if (long !== null) await this.#sendText(attached.run, longParamsFile, long);
    await this.#sendFiles(attached.run, "none");
    return { run: attached.run, delivered: this.#delivered };
  }

  #forget(): void {
    this.#run = undefined;
    this.#delivered = undefined;
  }

  /** What is only known, or only whole, at the end. */
  async #conclude({ status, time }: { status: RunStatus; time: number }): Promise<void> {
    const run = this.#run;
    if (run === undefined) return;
    // It only stops being delivered from here.
    if (status === "RUNNING") return;
    const { folder, checkpoints = "none", run: description } = this.options;
    const events = await readEvents(folder);
    const note = runNote(description.summary, events);
    const last = endingOf(events);
    if (note !== "")
      await this.#client.setTag(
        run.runId,
        { key: "mlflow.note.content", value: note.slice(0, 5000) },
        this.#call,
      );
    await this.#sendGrowth(run);
    await this.#sendFiles(run, checkpoints);
    if (description.parent !== undefined)
      await settleParent(this.#client, run, description.parent, this.#call);
    await this.#client.updateRun(run.runId, { status, endTime: last?.time ?? time }, this.#call);
  }

  async #sendGrowth(run: Run): Promise<void> {
    const growths = (await readEvents(this.options.folder)).filter(({ event }) => event === "growth");
    if (growths.length > 0) await this.#sendText(run, growthFile, growths);
  }

  async #sendText(run: Run, path: string, value: object): Promise<void> {
    const text = `${JSON.stringify(value, undefined, 2)}\n`;
    await this.#withArtifacts(() => this.#client.artifacts.upload(run, path, text, this.#call));
  }

  async #sendFiles(run: Run, checkpoints: CheckpointArtifacts): Promise<void> {
    const { folder, artifacts = [] } = this.options;
    await this.#withArtifacts(async () => {
      // One after the other: each that has arrived is noted, and not sent again after a failure.
      const files = [
        ...artifacts,
        ...(await growthMapFiles(folder)),
        ...(await checkpointFiles(folder, checkpoints)),
      ];
      for (const file of files) {
        const sent = this.#delivered?.artifacts ?? {};
        const now = await sendArtifacts(this.#client, run, folder, [file], sent, this.#call);
        if (now[file.path] === sent[file.path]) continue;
        await this.#remember({ artifacts: now });
      }
    });
  }

  /** A server that keeps no artifacts gets the numbers all the same. */
  async #withArtifacts(send: () => Promise<void>): Promise<void> {
    if (!this.#sendsArtifacts) return;
    try {
      await send();
    } catch (error) {
      if (mayPass(error) || error instanceof MlflowAuthenticationError) throw error;
      this.#sendsArtifacts = false;
      this.#note(`MLflow: no artifacts are sent: ${error instanceof Error ? error.message : error}`);
    }
  }

  /** Where it cannot be noted, the next delivery sends all again, which doubles nothing. */
  async #remember(changes: Partial<Delivered>): Promise<void> {
    if (this.#delivered === undefined) return;
    this.#delivered = { ...this.#delivered, ...changes };
    try {
      await writeDelivered(this.options.folder, this.#client.address, this.#delivered);
    } catch (error) {
      this.#note(
        `MLflow: cannot note in ${this.options.folder} what was delivered: ${error instanceof Error ? error.message : error}`,
      );
    }
  }

  get #call(): CallOptions {
    // A large file on a slow line is not nothing: what moves is waited for.
    return { signal: this.#end.signal, onProgress: () => this.#limit?.refresh() };
  }

  #failed(error: unknown): void {
    // A journal that was moved away, or a defect of ours: whatever it is, the training goes on.
    this.#problem = error instanceof Error ? error.message : String(error);
    const hint = error instanceof EspalierError && error.hint !== undefined ? ` (${error.hint})` : "";
    this.#note(
      `MLflow: ${shorten(this.#problem, longestNote)}${hint}; the run goes on, its journal is sent later`,
    );
  }

  #recovered(): void {
    if (this.#problem === null) return;
    this.#problem = null;
    this.#note("MLflow: delivering again");
  }

  /** The same line again and again helps nobody. */
  #note(line: string): void {
    if (line === this.#noted) return;
    this.#noted = line;
    this.options.note?.(line);
  }

  async #sleep(seconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#end.signal.removeEventListener("abort", done);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, seconds * 1000);
      // While the end is awaited, its time limit keeps the process alive; before, the training does.
      timer.unref();
      this.#end.signal.addEventListener("abort", done);
      this.#wake = done;
    });
  }
}

/** The system metrics of a folder; none where nobody measures. */
async function readSystem(
  folder: string,
  from: Delivered["system"],
  maxBytes: number,
): Promise<JournalPart<SystemSample>> {
  const file = join(folder, systemFile);
  if (!existsSync(file)) return { entries: [], positions: [], end: from, torn: 0 };
  return readJournal(file, systemSampleSchema, from, maxBytes);
}

/** Whether trying again soon can help. */
function mayPass(error: unknown): boolean {
  if (error instanceof MlflowConnectionError) return true;
  if (error instanceof MlflowAuthenticationError) return false;
  if (error instanceof MlflowNotFoundError) return true;
  if (error instanceof MlflowApiError || error instanceof MlflowResponseError)
    return error.status >= 500 || error.status === 408 || error.status === 429;
  return !(error instanceof MlflowError) && !(error instanceof EspalierError);
}
