import { MlflowInputError } from "./errors.js";
import { limits } from "./limits.js";
import { checkLength } from "./validation.js";

/** A data set that a run used. Name and digest together say which one it is. */
export interface DatasetInput {
  readonly name: string;
  /** A short fingerprint of its content, at most 36 characters. */
  readonly digest: string;
  /** What kind of place `source` is: `local`, `http`, `hugging_face`, … */
  readonly sourceType: string;
  /** Where it came from; by MLflow's custom JSON, but any text is taken. */
  readonly source: string;
  /** Its columns, as JSON. */
  readonly schema?: string;
  /** Its size and the like, as JSON. */
  readonly profile?: string;
  /** What it was used for: `training`, `validation`. Shown beside the name. */
  readonly context?: string;
}

/** @throws MlflowInputError if a field is missing or too long */
export function checkDatasetInput(dataset: DatasetInput, field: string): void {
  for (const name of ["name", "digest", "sourceType"] as const)
    if (dataset[name] === "")
      throw new MlflowInputError(`${field}.${name}: must not be empty`, `${field}.${name}`);
  checkLength(dataset.name, limits.datasetNameLength, `${field}.name`);
  checkLength(dataset.digest, limits.datasetDigestLength, `${field}.digest`);
  checkLength(dataset.source, limits.datasetSourceLength, `${field}.source`);
  checkLength(dataset.schema ?? "", limits.datasetSchemaLength, `${field}.schema`);
  checkLength(dataset.profile ?? "", limits.datasetProfileLength, `${field}.profile`);
  checkLength(dataset.context ?? "", limits.inputTagLength, `${field}.context`);
}

/** As the server takes it. */
export function toWire(dataset: DatasetInput): object {
  const { name, digest, sourceType, source, schema, profile, context } = dataset;
  return {
    tags: context === undefined ? [] : [{ key: "mlflow.data.context", value: context }],
    dataset: { name, digest, source_type: sourceType, source, schema, profile },
  };
}
