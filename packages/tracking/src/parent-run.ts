import type { CallOptions, MlflowClient, Run } from "@espalier/mlflow-js-client";
import type { MlflowRunDescription } from "./mlflow-description.js";

type Parent = NonNullable<MlflowRunDescription["parent"]>;

const parentTag = "mlflow.parentRunId";

/**
 * The id of the run that others are shown under: made by the first of them that is delivered. Those that are delivered at
 * the same moment may each make one; {@link settleParent} brings them together.
 */
export async function parentRun(
  client: MlflowClient,
  experimentId: string,
  parent: Parent,
  call: CallOptions,
): Promise<string> {
  const { name: runName, startTime } = parent;
  const run = { experimentId, runName, startTime, uniqueTag: uniqueTag(parent) };
  return (await client.createRun(run, call)).runId;
}

/** Once all runs have been made: every one takes the same parent, and removes the other that it had. */
export async function settleParent(
  client: MlflowClient,
  run: Run,
  parent: Parent,
  call: CallOptions,
): Promise<void> {
  const had = run.tags[parentTag];
  const kept = await client.findRunByTag(run.experimentId, uniqueTag(parent), call);
  if (kept === undefined || kept.runId === had) return;
  await client.setTag(run.runId, { key: parentTag, value: kept.runId }, call);
  if (had !== undefined) await client.deleteRun(had, call);
}

function uniqueTag({ id }: Parent): { key: string; value: string } {
  return { key: "espalier.runId", value: id };
}
