import {
  type Experiment,
  emptyAnswer,
  experimentAnswer,
  experimentIdAnswer,
  experimentsAnswer,
  metricsAnswer,
  type Page,
  type Run,
  type RunStatus,
  runAnswer,
  runsAnswer,
  type StoredMetric,
} from "./answers.js";
import { MlflowArtifacts } from "./artifacts.js";
import { type Batch, type BatchRequest, splitBatch } from "./batch.js";
import { type ConnectionOptions, connectionFromEnvironment, connectionOf } from "./connection.js";
import { checkDatasetInput, type DatasetInput, toWire } from "./datasets.js";
import {
  MlflowAlreadyExistsError,
  MlflowApiError,
  MlflowConnectionError,
  type MlflowError,
  MlflowInputError,
  MlflowNotFoundError,
  MlflowResponseError,
} from "./errors.js";
import { tagEquals } from "./filter.js";
import { MlflowModels } from "./models.js";
import { Rest } from "./rest.js";
import { type CallOptions, Transport } from "./transport.js";
import { checkExperimentName, checkTag, type Tag } from "./validation.js";

/** Which runs or experiments a search looks at. Default: the active ones. */
export type View = "ACTIVE_ONLY" | "DELETED_ONLY" | "ALL";

/** What {@link MlflowClient.searchRuns} looks for. */
export interface RunSearch {
  /** Where to look; in no experiment nothing is found. */
  readonly experimentIds: readonly string[];
  /** MLflow's filter language: `metrics.loss < 2 AND tags.team = 'a'`. See {@link tagEquals} for quoting. */
  readonly filter?: string;
  /** `["attributes.start_time DESC"]` */
  readonly orderBy?: readonly string[];
  /** Default: the active ones. */
  readonly view?: View;
  /** Runs on a page, at most 50 000. Default 1000. */
  readonly maxResults?: number;
  /** {@link Page.nextPageToken} of the page before. */
  readonly pageToken?: string | undefined;
}

/** What {@link MlflowClient.createRun} makes. */
export interface NewRun {
  readonly experimentId: string;
  /** Default: the server invents one. */
  readonly runName?: string;
  /** Milliseconds since the epoch. Default: now. */
  readonly startTime?: number;
  readonly tags?: readonly Tag[];
  /** The run that this one is shown under. */
  readonly parentRunId?: string;
  /**
   * A tag that no other run in the experiment has. Creating a run is not idempotent: with this tag, a run that has it
   * already is given instead of making another, also when the first attempt's answer got lost.
   */
  readonly uniqueTag?: Tag;
}

/** Changes to a run; what is missing stays. */
export interface RunChanges {
  readonly status?: RunStatus;
  /** Milliseconds since the epoch. */
  readonly endTime?: number;
  readonly runName?: string;
}

/**
 * A client of MLflow's tracking server over REST. Calls are validated before they are sent, retried with back-off
 * where that is safe, and reject with a {@link MlflowError}.
 *
 * @example
 * const client = new MlflowClient({ trackingUri: "http://127.0.0.1:5000" });
 * const experiment = await client.getOrCreateExperiment("apollo");
 * const run = await client.createRun({ experimentId: experiment.experimentId, runName: "first" });
 * await client.logBatch(run.runId, { metrics: [{ key: "loss", value: 2.5, timestamp: Date.now(), step: 1 }] });
 * await client.updateRun(run.runId, { status: "FINISHED", endTime: Date.now() });
 */
export class MlflowClient {
  readonly #transport: Transport;
  readonly #rest: Rest;
  /** Files of runs. */
  readonly artifacts: MlflowArtifacts;
  /** Logged models (MLflow 3). */
  readonly models: MlflowModels;

  /** @throws MlflowInputError if the address is not http(s) */
  constructor(options: ConnectionOptions) {
    this.#transport = new Transport(connectionOf(options));
    this.#rest = new Rest(this.#transport);
    this.artifacts = new MlflowArtifacts(this.#transport, this.#rest);
    this.models = new MlflowModels(this.#rest);
  }

  /**
   * A client for what `MLFLOW_TRACKING_URI` and the other variables of MLflow's own client say.
   *
   * @throws MlflowInputError
   */
  static fromEnvironment(
    environment: Readonly<Record<string, string | undefined>> = process.env,
  ): MlflowClient {
    return new MlflowClient(connectionFromEnvironment(environment));
  }

  /** The server's address, without credentials and without a slash at the end. */
  get address(): string {
    return this.#transport.connection.address;
  }

  /** Closes idle connections. Not needed for the process to end. */
  close(): void {
    this.#transport.close();
  }

  /**
   * The server's version: `3.17.2`.
   *
   * @throws MlflowResponseError if it is not an MLflow server
   */
  async serverVersion(options: CallOptions = {}): Promise<string> {
    const text = (await this.#transport.callText({ method: "GET", path: "/version", ...options })).trim();
    if (/^\d+\.\d+/.test(text) && text.length < 50) return text;
    throw new MlflowResponseError(
      `${this.address} is not an MLflow server: it does not say its version`,
      200,
    );
  }

  /**
   * Makes an experiment.
   *
   * @returns its id
   * @throws MlflowAlreadyExistsError also if the name belongs to a deleted experiment
   */
  async createExperiment(
    name: string,
    tags: readonly Tag[] = [],
    options: CallOptions = {},
  ): Promise<string> {
    checkExperimentName(name);
    for (const [index, tag] of tags.entries()) checkTag(tag, `tags[${index}]`);
    return (await this.#rest.post("experiments/create", { name, tags }, experimentIdAnswer, options))
      .experiment_id;
  }

  /** An experiment by its id; a deleted one is found, too. @throws MlflowNotFoundError */
  async getExperiment(experimentId: string, options: CallOptions = {}): Promise<Experiment> {
    return (
      await this.#rest.get("experiments/get", { experiment_id: experimentId }, experimentAnswer, options)
    ).experiment;
  }

  /** `undefined` if there is none. A deleted one is found, too. */
  async getExperimentByName(name: string, options: CallOptions = {}): Promise<Experiment | undefined> {
    checkExperimentName(name);
    return unlessMissing(
      this.#rest
        .get("experiments/get-by-name", { experiment_name: name }, experimentAnswer, options)
        .then((answer) => answer.experiment),
    );
  }

  /**
   * The experiment of this name, made if there is none; also if several processes ask at once.
   *
   * @throws MlflowInputError if it was deleted
   */
  async getOrCreateExperiment(name: string, options: CallOptions = {}): Promise<Experiment> {
    const known = await this.getExperimentByName(name, options);
    if (known === undefined)
      try {
        return await this.getExperiment(await this.createExperiment(name, [], options), options);
      } catch (error) {
        if (!(error instanceof MlflowAlreadyExistsError)) throw error;
      }
    const experiment = known ?? (await this.getExperimentByName(name, options));
    if (experiment?.lifecycleStage === "active") return experiment;
    throw new MlflowInputError(
      `experiment "${name}" was deleted on ${this.address}: restore it there, or choose another name`,
      "name",
    );
  }

  /** One page of the experiments that match. */
  async searchExperiments(
    search: {
      readonly filter?: string;
      readonly view?: View;
      readonly maxResults?: number;
      readonly pageToken?: string | undefined;
    } = {},
    options: CallOptions = {},
  ): Promise<Page<Experiment>> {
    return this.#rest.post(
      "experiments/search",
      {
        max_results: search.maxResults ?? 1000,
        filter: search.filter,
        view_type: search.view,
        page_token: search.pageToken,
      },
      experimentsAnswer,
      options,
    );
  }

  /** All experiments that match, page by page. */
  async *allExperiments(
    search: { readonly filter?: string; readonly view?: View; readonly maxResults?: number } = {},
    options: CallOptions = {},
  ): AsyncGenerator<Experiment> {
    let pageToken: string | undefined;
    do {
      const page = await this.searchExperiments({ ...search, pageToken }, options);
      yield* page.items;
      pageToken = page.nextPageToken;
    } while (pageToken !== undefined);
  }

  /** Gives it another name. @throws MlflowNotFoundError */
  async renameExperiment(experimentId: string, name: string, options: CallOptions = {}): Promise<void> {
    checkExperimentName(name);
    await this.#rest.post(
      "experiments/update",
      { experiment_id: experimentId, new_name: name },
      emptyAnswer,
      options,
    );
  }

  /** Its runs can be seen no more, until it is restored. */
  async deleteExperiment(experimentId: string, options: CallOptions = {}): Promise<void> {
    await this.#rest.post("experiments/delete", { experiment_id: experimentId }, emptyAnswer, options);
  }

  /** Brings a deleted experiment back, with its runs. @throws MlflowNotFoundError */
  async restoreExperiment(experimentId: string, options: CallOptions = {}): Promise<void> {
    await this.#rest.post("experiments/restore", { experiment_id: experimentId }, emptyAnswer, options);
  }

  /**
   * Starts a run. Without a {@link NewRun.uniqueTag} it is retried only where the server certainly has not made one.
   *
   * @throws MlflowNotFoundError if there is no such experiment
   */
  async createRun(run: NewRun, options: CallOptions = {}): Promise<Run> {
    const tags = [
      ...(run.tags ?? []),
      ...(run.parentRunId === undefined ? [] : [{ key: "mlflow.parentRunId", value: run.parentRunId }]),
      ...(run.uniqueTag === undefined ? [] : [run.uniqueTag]),
    ];
    for (const [index, tag] of tags.entries()) checkTag(tag, `tags[${index}]`);
    const body = {
      experiment_id: run.experimentId,
      run_name: run.runName,
      start_time: run.startTime ?? Date.now(),
      tags,
    };
    for (let attempt = 0; ; attempt++) {
      const known = run.uniqueTag && (await this.findRunByTag(run.experimentId, run.uniqueTag, options));
      if (known !== undefined) return known;
      try {
        return (await this.#rest.post("runs/create", body, runAnswer, options, true)).run;
      } catch (error) {
        // The answer may have got lost after the run was made: look before making another.
        const mayBeMade =
          error instanceof MlflowConnectionError ||
          ((error instanceof MlflowApiError || error instanceof MlflowResponseError) && error.status >= 500);
        if (run.uniqueTag === undefined || !mayBeMade || attempt >= this.#transport.connection.retries)
          throw error;
      }
    }
  }

  /** The oldest active run with this tag, if there is one. */
  async findRunByTag(experimentId: string, tag: Tag, options: CallOptions = {}): Promise<Run | undefined> {
    const { items } = await this.searchRuns(
      {
        experimentIds: [experimentId],
        filter: tagEquals(tag.key, tag.value),
        orderBy: ["attributes.start_time ASC"],
        maxResults: 1,
      },
      options,
    );
    return items[0];
  }

  /** A run by its id; a deleted one is found, too. @throws MlflowNotFoundError */
  async getRun(runId: string, options: CallOptions = {}): Promise<Run> {
    return (await this.#rest.get("runs/get", { run_id: runId }, runAnswer, options)).run;
  }

  /** Sets status, end and name. A finished run may be set to RUNNING again. */
  async updateRun(runId: string, changes: RunChanges, options: CallOptions = {}): Promise<void> {
    const known: readonly string[] = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"];
    // A server ignores a status that it does not know, and answers 200.
    if (changes.status !== undefined && !known.includes(changes.status))
      throw new MlflowInputError(`status: expected ${known.join(", ")}, not "${changes.status}"`, "status");
    await this.#rest.post(
      "runs/update",
      { run_id: runId, status: changes.status, end_time: changes.endTime, run_name: changes.runName },
      emptyAnswer,
      options,
    );
  }

  /** Marks a run as deleted: it is not found and takes nothing until it is restored. @throws MlflowNotFoundError */
  async deleteRun(runId: string, options: CallOptions = {}): Promise<void> {
    await this.#rest.post("runs/delete", { run_id: runId }, emptyAnswer, options);
  }

  /** Brings a deleted run back. @throws MlflowNotFoundError */
  async restoreRun(runId: string, options: CallOptions = {}): Promise<void> {
    await this.#rest.post("runs/restore", { run_id: runId }, emptyAnswer, options);
  }

  /** One page of the runs that match. */
  async searchRuns(search: RunSearch, options: CallOptions = {}): Promise<Page<Run>> {
    return this.#rest.post(
      "runs/search",
      {
        experiment_ids: search.experimentIds,
        filter: search.filter,
        order_by: search.orderBy,
        run_view_type: search.view,
        max_results: search.maxResults ?? 1000,
        page_token: search.pageToken,
      },
      runsAnswer,
      options,
    );
  }

  /** All runs that match, page by page. */
  async *allRuns(search: Omit<RunSearch, "pageToken">, options: CallOptions = {}): AsyncGenerator<Run> {
    let pageToken: string | undefined;
    do {
      const page = await this.searchRuns({ ...search, pageToken }, options);
      yield* page.items;
      pageToken = page.nextPageToken;
    } while (pageToken !== undefined);
  }

  /** Sets a tag, or overwrites it. */
  async setTag(runId: string, tag: Tag, options: CallOptions = {}): Promise<void> {
    checkTag(tag, "tag");
    await this.#rest.post("runs/set-tag", { run_id: runId, ...tag }, emptyAnswer, options);
  }

  /** Removes a tag. @throws MlflowNotFoundError if the run has no such tag */
  async deleteTag(runId: string, key: string, options: CallOptions = {}): Promise<void> {
    await this.#rest.post("runs/delete-tag", { run_id: runId, key }, emptyAnswer, options);
  }

  /**
   * Logs any number of metrics, params and tags, in as many requests as the server's limits ask for, one after the
   * other. All of it is checked before the first is sent. Sending the same again is safe: a server keeps an identical
   * metric point (key, value, timestamp, step) once.
   *
   * @throws MlflowInputError if anything in it is not acceptable (a name, a value that is not finite, a text too
   * long); nothing was sent then
   * @throws MlflowApiError e.g. if a param was logged before with another value; requests before that one are stored
   */
  async logBatch(runId: string, batch: Batch, options: CallOptions = {}): Promise<void> {
    for (const request of splitBatch(batch)) await this.#logRequest(runId, request, options);
  }

  async #logRequest(runId: string, request: BatchRequest, options: CallOptions): Promise<void> {
    const metrics = request.metrics.map((metric) => ({ step: 0, ...metric }));
    try {
      await this.#rest.post("runs/log-batch", { run_id: runId, ...request, metrics }, emptyAnswer, options);
    } catch (error) {
      if (!(error instanceof MlflowApiError) || !isRepetition(error)) throw error;
      if (metrics.length <= repeatableMetrics) throw error;
      const { params, tags } = request;
      await this.#logRequest(runId, { params, tags, metrics: [] }, options);
      for (let first = 0; first < metrics.length; first += repeatableMetrics) {
        const part = metrics.slice(first, first + repeatableMetrics);
        await this.#logRequest(runId, { params: [], tags: [], metrics: part }, options);
      }
    }
  }

  /**
   * Says which data sets a run used. A data set is known by name and digest; saying it again changes nothing.
   *
   * @throws MlflowInputError if anything in it is too long
   */
  async logInputs(
    runId: string,
    datasets: readonly DatasetInput[],
    options: CallOptions = {},
  ): Promise<void> {
    for (const [index, dataset] of datasets.entries()) checkDatasetInput(dataset, `datasets[${index}]`);
    await this.#rest.post(
      "runs/log-inputs",
      { run_id: runId, datasets: datasets.map(toWire) },
      emptyAnswer,
      options,
    );
  }

  /** Sets a tag of an experiment, or overwrites it. */
  async setExperimentTag(experimentId: string, tag: Tag, options: CallOptions = {}): Promise<void> {
    checkTag(tag, "tag");
    await this.#rest.post(
      "experiments/set-experiment-tag",
      { experiment_id: experimentId, ...tag },
      emptyAnswer,
      options,
    );
  }

  /** All points of a metric, by step; none if the run has no such metric. */
  async metricHistory(runId: string, key: string, options: CallOptions = {}): Promise<StoredMetric[]> {
    const points: StoredMetric[] = [];
    let pageToken: string | undefined;
    do {
      const page: Page<StoredMetric> = await this.#rest.get(
        "metrics/get-history",
        { run_id: runId, metric_key: key, max_results: 10_000, page_token: pageToken },
        metricsAnswer,
        options,
      );
      for (const point of page.items) points.push(point);
      pageToken = page.nextPageToken;
    } while (pageToken !== undefined);
    return points.sort((a, b) => a.step - b.step || a.timestamp - b.timestamp);
  }
}

/**
 * Servers look for points that they have already by the keys of a hundred of a request's points at a time, and fail where
 * a point that they have is of another key than those: what is sent again must be of one such hundred.
 */
const repeatableMetrics = 100;

/** Whether a server's database refused a point that it has already. SQLite, PostgreSQL and MySQL say so differently. */
function isRepetition({ message }: MlflowApiError): boolean {
  return /IntegrityError|UniqueViolation|unique constraint|duplicate (key|entry)/i.test(message);
}

async function unlessMissing<Found>(found: Promise<Found>): Promise<Found | undefined> {
  try {
    return await found;
  } catch (error) {
    if (error instanceof MlflowNotFoundError) return undefined;
    throw error;
  }
}
