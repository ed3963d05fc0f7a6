import { join } from "node:path";
import { EspalierError, type JsonObject } from "@espalier/core";
import {
  type ConnectionOptions,
  limits,
  MlflowApiError,
  MlflowAuthenticationError,
  MlflowClient,
  MlflowConnectionError,
  MlflowError,
  MlflowInputError,
  MlflowNotFoundError,
  MlflowResponseError,
  type Run,
  type RunStatus,
} from "@espalier/mlflow-js-client";
import { type Delivered, readDelivered, writeDelivered } from "./delivered-position.js";
import { journalFiles } from "./journal.js";
import { readJournal, startOfJournal } from "./journal-file.js";
import { flattenParams, mlflowKey, shorten } from "./mlflow-names.js";
import { mlflowBatch } from "./mlflow-records.js";
import { runEventSchema, stepMetricsSchema } from "./records.js";

/** What MLflow is told of a run, beside its journal. */
export interface MlflowRunDescription {
  /** Ours, from the lock; the tag `espalier.runId`, by which the run is found again. */
  readonly id: string;
  /** `mlflow.runName` */
  readonly name: string;
  /** Milliseconds since the epoch. */
  readonly startTime: number;
  /** The resolved definition; flattened into params. */
  readonly definition: JsonObject;
  readonly tags?: Readonly<Record<string, string>>;
}

/** How a run is delivered. */
export interface MlflowDeliveryOptions {
  /** The run folder, with a journal. */
  readonly folder: string;
  /** From {@link trackingTarget}. */
  readonly connection: ConnectionOptions;
  /** Name of the MLflow experiment; made if there is none. */
  readonly experiment: string;
  readonly run: MlflowRunDescription;
  /** Is given one line at a time: where the run can be seen, and what goes wrong. */
  readonly note?: (line: string) => void;
  /** Seconds between two looks at the journal. Default 1. */
  readonly everySeconds?: number;
  /** Seconds before the first new attempt after a failure; doubled up to a minute. Default 2. */
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
const longestRetrySeconds = 60;
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
  #delivered: Delivered | undefined;
  #isDescribed = false;
  #final: { status: RunStatus; time: number } | undefined;
  #isComplete = false;
  #problem: string | null = null;
  #noted = "";
  #wake: (() => void) | undefined;

  private constructor(readonly options: MlflowDeliveryOptions) {
    const { connection } = options;
    this.#client = new MlflowClient({
      ...connection,
      timeoutSeconds: Math.min(connection.timeoutSeconds ?? 30, 30),
      // The loop tries again by itself.
      retries: 1,
    });
    this.#loop = this.#run().catch((error: unknown) => {
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
    return `${this.#client.address}/#/experiments/${experimentId}/runs/${runId}`;
  }

  /**
   * Sends the rest of the journal and the run's status. Close or flush the journal before. Never rejects.
   *
   * @param withinSeconds the rest is left for later then. Default 20
   */
  async finish(
    status: Extract<RunStatus, "FINISHED" | "FAILED" | "KILLED">,
    { withinSeconds = 20 }: { readonly withinSeconds?: number } = {},
  ): Promise<DeliveryResult> {
    this.#final ??= { status, time: Date.now() };
    const limit = setTimeout(() => this.#end.abort(), withinSeconds * 1000);
    this.#wake?.();
    await this.#loop;
    clearTimeout(limit);
    this.#client.close();
    if (!this.#isComplete) {
      this.#problem ??= `${this.#client.address} did not take everything within ${withinSeconds} seconds`;
      this.#note(
        `MLflow has not got all of this run (${this.#problem}); it is in the journal, and --resume sends the rest`,
      );
    }
    return { isComplete: this.#isComplete, url: this.url, problem: this.#isComplete ? null : this.#problem };
  }

  async #run(): Promise<void> {
    const { everySeconds = 1, retrySeconds = 2 } = this.options;
    let failures = 0;
    let failuresAtEnd = 0;
    while (!this.#end.signal.aborted) {
      const isLast = this.#final !== undefined;
      try {
        const hasMore = await this.#deliver();
        failures = 0;
        this.#recovered();
        if (hasMore) continue;
        if (isLast && this.#final !== undefined) {
          await this.#sendStatus(this.#final);
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

  /** Sends one part of the journal. Answers whether there may be more at once. */
  async #deliver(): Promise<boolean> {
    const delivered = await this.#attach();
    const { folder } = this.options;
    const [steps, events] = await Promise.all([
      readJournal(join(folder, journalFiles.metrics), stepMetricsSchema, delivered.metrics, bytesAtOnce),
      readJournal(join(folder, journalFiles.events), runEventSchema, delivered.events, bytesAtOnce),
    ]);
    if (steps.end.byte === delivered.metrics.byte && events.end.byte === delivered.events.byte) return false;
    try {
      await this.#client.logBatch(delivered.runId, mlflowBatch(steps.entries, events.entries), this.#call);
    } catch (error) {
      if (error instanceof MlflowNotFoundError) this.#delivered = undefined;
      throw error;
    }
    this.#delivered = { ...delivered, metrics: steps.end, events: events.end };
    await this.#remember();
    return true;
  }

  /** The run on the server: found again, or made; with its params and tags. */
  async #attach(): Promise<Delivered> {
    if (this.#delivered !== undefined && this.#isDescribed) return this.#delivered;
    const { folder, experiment, run } = this.options;
    const known = await readDelivered(folder, this.#client.address);
    let found = known && (await this.#runIfThere(known.runId));
    const isKnown = found !== undefined;
    if (found === undefined) {
      const { experimentId } = await this.#client.getOrCreateExperiment(experiment, this.#call);
      found = await this.#client.createRun(
        {
          experimentId,
          runName: run.name,
          startTime: run.startTime,
          uniqueTag: { key: "espalier.runId", value: run.id },
        },
        this.#call,
      );
    }
    if (found.lifecycleStage === "deleted")
      throw new MlflowInputError(
        `the run ${found.runId} was deleted on ${this.#client.address}: restore it there`,
        "runId",
      );
    await this.#describe(found);
    const position =
      isKnown && known !== undefined ? known : { metrics: startOfJournal, events: startOfJournal };
    this.#delivered = {
      experimentId: found.experimentId,
      runId: found.runId,
      metrics: position.metrics,
      events: position.events,
    };
    this.#isDescribed = true;
    await this.#remember();
    this.#note(`MLflow: ${this.url}`);
    return this.#delivered;
  }

  async #runIfThere(runId: string): Promise<Run | undefined> {
    try {
      return await this.#client.getRun(runId, this.#call);
    } catch (error) {
      if (error instanceof MlflowNotFoundError) return undefined;
      throw error;
    }
  }

  // A param keeps its first value on the server. What a resumed run may change (engine, threads) becomes a tag.
  async #describe(found: Run): Promise<void> {
    const { run } = this.options;
    const params = flattenParams(run.definition);
    const tags = new Map<string, string>([["mlflow.runName", run.name]]);
    for (const [key, value] of Object.entries(run.tags ?? {})) tags.set(mlflowKey(key), value);
    for (const { key, value } of params) {
      const before = found.params[key];
      if (before !== undefined && before !== value) tags.set(mlflowKey(`espalier.changed.${key}`), value);
    }
    await this.#client.logBatch(
      found.runId,
      {
        params: params.filter(({ key }) => found.params[key] === undefined),
        // Old servers cut longer tags.
        tags: [...tags].map(([key, value]) => ({
          key,
          value: shorten(value, Math.min(5000, limits.tagValueLength)),
        })),
      },
      this.#call,
    );
    if (found.status !== "RUNNING")
      await this.#client.updateRun(found.runId, { status: "RUNNING" }, this.#call);
  }

  async #sendStatus({ status, time }: { status: RunStatus; time: number }): Promise<void> {
    if (this.#delivered === undefined) return;
    await this.#client.updateRun(this.#delivered.runId, { status, endTime: time }, this.#call);
  }

  /** Where it cannot be noted, the next delivery sends all again, which doubles nothing. */
  async #remember(): Promise<void> {
    if (this.#delivered === undefined) return;
    try {
      await writeDelivered(this.options.folder, this.#client.address, this.#delivered);
    } catch (error) {
      this.#note(
        `MLflow: cannot note in ${this.options.folder} what was delivered: ${error instanceof Error ? error.message : error}`,
      );
    }
  }

  get #call(): { signal: AbortSignal } {
    return { signal: this.#end.signal };
  }

  #failed(error: unknown): void {
    // A journal that was moved away, or a defect of ours: whatever it is, the training goes on.
    this.#problem = error instanceof Error ? error.message : String(error);
    const hint = error instanceof EspalierError && error.hint !== undefined ? ` (${error.hint})` : "";
    this.#note(`MLflow: ${this.#problem}${hint}; the run goes on, its journal is sent later`);
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

/** Whether trying again soon can help. */
function mayPass(error: unknown): boolean {
  if (error instanceof MlflowConnectionError) return true;
  if (error instanceof MlflowAuthenticationError) return false;
  if (error instanceof MlflowNotFoundError) return true;
  if (error instanceof MlflowApiError || error instanceof MlflowResponseError)
    return error.status >= 500 || error.status === 408 || error.status === 429;
  return !(error instanceof MlflowError) && !(error instanceof EspalierError);
}
