import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { EspalierError, type JsonObject, UsageError } from "@espalier/core";
import { checkpointFiles, lastCompleteStep, listSteps, stepFolder } from "./checkpoint-folder.js";
import { readFailure } from "./file-failures.js";
import { openSafetensors, type TensorSource } from "./safetensors-reader.js";
import { openShardedSafetensors } from "./sharded-safetensors.js";

/** A checkpoint, open for reading. Close it. */
export interface OpenCheckpoint {
  /** What the given path was. */
  readonly kind: "run" | "step" | "huggingface";
  /** The folder with the weights. */
  readonly folder: string;
  /** Completed steps of the run it belongs to, where it does. */
  readonly step: number | null;
  /** Later steps of the run whose folders are damaged, so that this one is its last. */
  readonly passedOver: readonly number[];
  /** Hugging Face's config. */
  readonly config: JsonObject;
  readonly weights: TensorSource;
  /** Moments and step counts; null in a Hugging Face folder. */
  readonly optimizer: TensorSource | null;
  /** The run's position; null in a Hugging Face folder. */
  readonly state: JsonObject | null;
  /** Path of `tokenizer.json`, where there is one. */
  readonly tokenizerFile: string | null;
  close(): Promise<void>;
}

/**
 * Opens a run folder (its last complete step), a step folder, or a Hugging Face folder.
 *
 * @throws UsageError ESPALIER_CHECKPOINT_NOT_FOUND saying what was looked for
 * @throws EspalierError for a damaged file, naming it
 */
export async function openCheckpoint(path: string): Promise<OpenCheckpoint> {
  const found = await stat(path).catch(() => null);
  if (found === null) throw notFound(path, "it does not exist");
  if (!found.isDirectory())
    throw notFound(path, "it is a file", `give the folder that it lies in: ${dirname(path)}`);
  const run = basename(resolve(path)) === "checkpoints" ? dirname(resolve(path)) : path;
  const steps = await listSteps(run);
  if (steps.length > 0) {
    const step = await lastCompleteStep(run);
    if (step === null)
      throw notFound(path, "it is a run folder, but none of its step folders in checkpoints/ is complete");
    return openFolder(
      stepFolder(run, step),
      "run",
      steps.filter((each) => each > step),
    );
  }
  return openFolder(path, "step", []);
}

async function openFolder(
  folder: string,
  kind: "run" | "step",
  passedOver: readonly number[],
): Promise<OpenCheckpoint> {
  const names = new Set(await readdir(folder));
  const single = names.has(checkpointFiles.model);
  if (!single && !names.has(checkpointFiles.shards)) throw notFound(folder, ...missingWeights(folder, names));
  if (!names.has(checkpointFiles.config))
    throw notFound(folder, `it has ${checkpointFiles.model}, but no ${checkpointFiles.config}`);
  const at = (name: string): string => join(folder, name);
  const config = await readJsonObject(at(checkpointFiles.config));
  const state = names.has(checkpointFiles.state) ? await readJsonObject(at(checkpointFiles.state)) : null;
  const weights = single
    ? await openSafetensors(at(checkpointFiles.model))
    : await openShardedSafetensors(at(checkpointFiles.shards));
  let optimizer: TensorSource | null = null;
  try {
    if (names.has(checkpointFiles.optimizer))
      optimizer = await openSafetensors(at(checkpointFiles.optimizer));
  } catch (error) {
    await weights.close();
    throw error;
  }
  const step = /^step-(\d+)$/.exec(basename(resolve(folder)))?.[1];
  return {
    kind: state === null && optimizer === null ? "huggingface" : kind,
    folder,
    step: step === undefined ? null : Number(step),
    passedOver,
    config,
    weights,
    optimizer,
    state,
    tokenizerFile: names.has(checkpointFiles.tokenizer) ? at(checkpointFiles.tokenizer) : null,
    close: async () => {
      await weights.close();
      await optimizer?.close();
    },
  };
}

function missingWeights(folder: string, names: ReadonlySet<string>): [what: string, hint?: string] {
  const pickled = [...names].find((name) => /\.(bin|pt|pth|ckpt|pkl)(\.index\.json)?$/.test(name));
  if (pickled !== undefined)
    return [
      `it has its weights as ${pickled}, a PyTorch pickle: reading one runs whatever program was put into it, so it is not read`,
      `where you trust it, convert it: python -c 'from transformers import AutoModelForPreTraining as M; M.from_pretrained(${JSON.stringify(folder)}).save_pretrained(${JSON.stringify(`${folder}-safetensors`)}, safe_serialization=True)' and copy tokenizer.json along`,
    ];
  const other = [...names].find((name) => /\.(h5|msgpack|onnx|gguf)$/.test(name));
  if (other !== undefined)
    return [`it has its weights as ${other}; only safetensors are read`, "save them as safetensors"];
  const elsewhere = [...names].find((name) => name.endsWith(".safetensors"));
  if (elsewhere !== undefined)
    return [`it has ${elsewhere}, but neither ${checkpointFiles.model} nor ${checkpointFiles.shards}`];
  if (names.has("definition.yaml") || names.has("lock.json") || names.has("metrics.jsonl"))
    return ["it is a run folder that has no checkpoint yet"];
  return ["it has neither steps nor weights"];
}

/**
 * Reads a JSON object.
 *
 * @throws EspalierError ESPALIER_CHECKPOINT_DAMAGED naming the file
 */
export async function readJsonObject(file: string): Promise<JsonObject> {
  const text = await readFile(file, "utf8").catch((cause) => {
    throw readFailure(file, cause);
  });
  let value: unknown;
  let cause: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    cause = error;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new EspalierError("ESPALIER_CHECKPOINT_DAMAGED", `${file} is not a JSON object`, { file, cause });
  return value as JsonObject;
}

function notFound(path: string, what: string, hint?: string): UsageError {
  return new UsageError(
    "ESPALIER_CHECKPOINT_NOT_FOUND",
    `${path} is no checkpoint: ${what}; looked for a run folder (checkpoints/step-N/), a step folder (${checkpointFiles.model}, ${checkpointFiles.config}, ${checkpointFiles.state}) and a Hugging Face folder (${checkpointFiles.config} with ${checkpointFiles.model} or ${checkpointFiles.shards})`,
    { file: path, hint },
  );
}
