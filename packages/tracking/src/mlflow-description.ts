import type { JsonObject } from "@espalier/core";
import type { DatasetInput } from "@espalier/mlflow-js-client";

/** What MLflow is told of a run, beside its journal. All of it is JSON: it is handed to another process. */
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
  /** A sentence of Markdown that begins the run's description. */
  readonly summary?: string;
  readonly datasets?: readonly DatasetInput[];
  /** The run that this one is shown under, as a sweep's runs are; made if there is none of that `id` yet. */
  readonly parent?: { readonly id: string; readonly name: string; readonly startTime: number };
}

/** A file of the run folder that becomes an artifact. */
export interface ArtifactFile {
  /** Its name in MLflow, with `/`. */
  readonly path: string;
  /** Relative to the run folder. One that is not there is left out. */
  readonly file: string;
}

/** Which checkpoints become artifacts: none, the last one, or each as it is written. */
export type CheckpointArtifacts = "none" | "last" | "all";
