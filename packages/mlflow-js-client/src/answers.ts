import { z } from "zod";

/** A 64-bit integer; some servers write it as text. */
const int64 = z.union([
  z.number(),
  z
    .string()
    .regex(/^-?\d+$/)
    .transform(Number),
]);

// Stores keep an infinity as the largest finite number, and answers give NaN as text.
const largest = Number.MAX_VALUE;
const metricValue = z
  .union([z.number(), z.enum(["NaN", "Infinity", "-Infinity"]).transform(Number)])
  .transform((value) => (Math.abs(value) === largest ? Math.sign(value) * Number.POSITIVE_INFINITY : value));

/** A run's or an experiment's life: a deleted one can be restored. */
export type LifecycleStage = "active" | "deleted";

/** A run's state. */
export type RunStatus = "RUNNING" | "SCHEDULED" | "FINISHED" | "FAILED" | "KILLED";

/** An experiment: a named group of runs. */
export interface Experiment {
  readonly experimentId: string;
  readonly name: string;
  readonly lifecycleStage: LifecycleStage;
  readonly artifactLocation: string | undefined;
  /** Milliseconds since the epoch. */
  readonly creationTime: number | undefined;
  readonly tags: Readonly<Record<string, string>>;
}

/** A metric point as the server has it. */
export interface StoredMetric {
  readonly key: string;
  /** NaN and the infinities come back as such. */
  readonly value: number;
  /** Milliseconds since the epoch. */
  readonly timestamp: number;
  readonly step: number;
}

/** A run as the server has it. */
export interface Run {
  readonly runId: string;
  readonly experimentId: string;
  readonly runName: string | undefined;
  readonly status: RunStatus;
  readonly lifecycleStage: LifecycleStage;
  /** Milliseconds since the epoch. */
  readonly startTime: number | undefined;
  readonly endTime: number | undefined;
  readonly artifactUri: string | undefined;
  /** Of each metric the point with the highest step. */
  readonly metrics: Readonly<Record<string, StoredMetric>>;
  readonly params: Readonly<Record<string, string>>;
  readonly tags: Readonly<Record<string, string>>;
  readonly datasets: readonly StoredDatasetInput[];
}

/** A data set that a run used, as the server has it. */
export interface StoredDatasetInput {
  readonly name: string;
  readonly digest: string;
  /** What it was used for: `training`, … */
  readonly context: string | undefined;
}

/** A model of MLflow 3's list of models. */
export interface LoggedModel {
  readonly modelId: string;
  readonly name: string | undefined;
  /** `LOGGED_MODEL_PENDING`, `LOGGED_MODEL_READY`, … */
  readonly status: string | undefined;
  readonly artifactUri: string | undefined;
}

/** A page of a search. */
export interface Page<Item> {
  readonly items: readonly Item[];
  /** Give it to the next call to get the next page; `undefined` at the last one. */
  readonly nextPageToken: string | undefined;
}

const lifecycle = z.enum(["active", "deleted"]).default("active");
const keyValues = z
  .array(z.object({ key: z.string(), value: z.string().default("") }))
  .default([])
  .transform((list) => Object.fromEntries(list.map(({ key, value }) => [key, value])));

const metricSchema = z.object({
  key: z.string(),
  value: metricValue,
  timestamp: int64,
  step: int64.default(0),
});

export const experimentSchema = z
  .object({
    experiment_id: z.string(),
    name: z.string(),
    artifact_location: z.string().optional(),
    lifecycle_stage: lifecycle,
    creation_time: int64.optional(),
    tags: keyValues,
  })
  .transform(
    (value): Experiment => ({
      experimentId: value.experiment_id,
      name: value.name,
      lifecycleStage: value.lifecycle_stage,
      artifactLocation: value.artifact_location,
      creationTime: value.creation_time,
      tags: value.tags,
    }),
  );

export const runSchema = z
  .object({
    info: z.object({
      run_id: z.string(),
      experiment_id: z.string(),
      run_name: z.string().optional(),
      status: z.enum(["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]),
      start_time: int64.optional(),
      end_time: int64.optional(),
      artifact_uri: z.string().optional(),
      lifecycle_stage: lifecycle,
    }),
    data: z
      .object({ metrics: z.array(metricSchema).default([]), params: keyValues, tags: keyValues })
      .default({ metrics: [], params: {}, tags: {} }),
    inputs: z
      .object({
        dataset_inputs: z
          .array(
            z.object({
              tags: keyValues,
              dataset: z.object({ name: z.string(), digest: z.string().default("") }),
            }),
          )
          .default([]),
      })
      .default({ dataset_inputs: [] }),
  })
  .transform(
    ({ info, data, inputs }): Run => ({
      runId: info.run_id,
      experimentId: info.experiment_id,
      runName: info.run_name,
      status: info.status,
      lifecycleStage: info.lifecycle_stage,
      startTime: info.start_time,
      endTime: info.end_time,
      artifactUri: info.artifact_uri,
      metrics: Object.fromEntries(data.metrics.map((metric) => [metric.key, metric])),
      params: data.params,
      tags: data.tags,
      datasets: inputs.dataset_inputs.map(({ tags, dataset }) => ({
        ...dataset,
        context: tags["mlflow.data.context"],
      })),
    }),
  );

const nextPageToken = z
  .string()
  .optional()
  .transform((token) => token || undefined);

export const experimentAnswer = z.object({ experiment: experimentSchema });
export const experimentIdAnswer = z.object({ experiment_id: z.string() });
export const experimentsAnswer = z
  .object({ experiments: z.array(experimentSchema).default([]), next_page_token: nextPageToken })
  .transform(
    (value): Page<Experiment> => ({ items: value.experiments, nextPageToken: value.next_page_token }),
  );
export const runAnswer = z.object({ run: runSchema });
export const runsAnswer = z
  .object({ runs: z.array(runSchema).default([]), next_page_token: nextPageToken })
  .transform((value): Page<Run> => ({ items: value.runs, nextPageToken: value.next_page_token }));
export const metricsAnswer = z
  .object({ metrics: z.array(metricSchema).default([]), next_page_token: nextPageToken })
  .transform((value): Page<StoredMetric> => ({ items: value.metrics, nextPageToken: value.next_page_token }));
export const artifactsAnswer = z.object({
  files: z
    .array(z.object({ path: z.string(), is_dir: z.boolean().default(false), file_size: int64.optional() }))
    .default([])
    .transform((files) =>
      files.map((file) => ({ path: file.path, isFolder: file.is_dir, size: file.file_size })),
    ),
});
export const modelAnswer = z.object({
  model: z
    .object({
      info: z.object({
        model_id: z.string(),
        name: z.string().optional(),
        status: z.string().optional(),
        artifact_uri: z.string().optional(),
      }),
    })
    .transform(
      ({ info }): LoggedModel => ({
        modelId: info.model_id,
        name: info.name,
        status: info.status,
        artifactUri: info.artifact_uri,
      }),
    ),
});
export const emptyAnswer = z.object({});
