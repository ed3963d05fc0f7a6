import {
  type CallOptions,
  limits,
  type MlflowClient,
  MlflowInputError,
  MlflowNotFoundError,
  type Run,
} from "@espalier/mlflow-js-client";
import { type Delivered, nothingDelivered, readDelivered } from "./delivered-position.js";
import type { MlflowRunDescription } from "./mlflow-description.js";
import { flattenParams, mlflowKey, shorten } from "./mlflow-names.js";
import { parentRun } from "./parent-run.js";
import { unusedColour } from "./run-colours.js";
import { runNote } from "./run-note.js";

/** Old servers cut longer tags. */
const longestTag = Math.min(5000, limits.tagValueLength);

/** A run on the server, and how far the journal has got there. */
export interface AttachedRun {
  readonly run: Run;
  readonly delivered: Delivered;
}

/**
 * The run on the server: the one that `mlflow.json` in the run folder knows, else the one with the tag
 * `espalier.runId`, else a new one; with its params, tags and data sets.
 *
 * @throws MlflowInputError if the run or the experiment was deleted on the server
 */
export async function attachRun(
  client: MlflowClient,
  folder: string,
  experiment: string,
  description: MlflowRunDescription,
  call: CallOptions,
): Promise<AttachedRun> {
  const known = await readDelivered(folder, client.address);
  const before = known && (await runIfThere(client, known.runId, call));
  const run = before ?? (await findOrCreate(client, experiment, description, call));
  if (run.lifecycleStage === "deleted")
    throw new MlflowInputError(
      `the run ${run.runId} was deleted on ${client.address}: restore it there`,
      "runId",
    );
  await describe(client, run, description, call);
  const { experimentId, runId } = run;
  const position = before !== undefined && known !== undefined ? known : nothingDelivered;
  return { run, delivered: { ...position, experimentId, runId } };
}

async function runIfThere(client: MlflowClient, runId: string, call: CallOptions): Promise<Run | undefined> {
  try {
    return await client.getRun(runId, call);
  } catch (error) {
    if (error instanceof MlflowNotFoundError) return undefined;
    throw error;
  }
}

async function findOrCreate(
  client: MlflowClient,
  experiment: string,
  { id, name, startTime, parent }: MlflowRunDescription,
  call: CallOptions,
): Promise<Run> {
  const { experimentId } = await client.getOrCreateExperiment(experiment, call);
  const uniqueTag = { key: "espalier.runId", value: id };
  const found = await client.findRunByTag(experimentId, uniqueTag, call);
  if (found !== undefined) return found;
  const tags = [{ key: "mlflow.runColor", value: await unusedColour(client, call) }];
  const above = parent && { parentRunId: await parentRun(client, experimentId, parent, call) };
  return client.createRun({ experimentId, runName: name, startTime, tags, uniqueTag, ...above }, call);
}

// A param keeps its first value on the server. What a resumed run may change (engine, threads) becomes a tag.
async function describe(
  client: MlflowClient,
  found: Run,
  description: MlflowRunDescription,
  call: CallOptions,
): Promise<void> {
  const params = flattenParams(description.definition);
  const tags = new Map<string, string>([["mlflow.runName", description.name]]);
  for (const [key, value] of Object.entries(description.tags ?? {})) tags.set(mlflowKey(key), value);
  for (const { key, value } of params) {
    const before = found.params[key];
    if (before !== undefined && before !== value) tags.set(mlflowKey(`espalier.changed.${key}`), value);
  }
  const note = runNote(description.summary, []);
  if (note !== "" && found.tags["mlflow.note.content"] === undefined) tags.set("mlflow.note.content", note);
  await client.logBatch(
    found.runId,
    {
      params: params.filter(({ key }) => found.params[key] === undefined),
      tags: [...tags].map(([key, value]) => ({ key, value: shorten(value, longestTag) })),
    },
    call,
  );
  const datasets = description.datasets ?? [];
  if (datasets.length > 0 && found.datasets.length === 0) await client.logInputs(found.runId, datasets, call);
  if (found.status !== "RUNNING") await client.updateRun(found.runId, { status: "RUNNING" }, call);
}
