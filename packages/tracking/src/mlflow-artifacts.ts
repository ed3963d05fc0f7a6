import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { CallOptions, MlflowClient, Run } from "@espalier/mlflow-js-client";
import type { ArtifactFile, CheckpointArtifacts } from "./mlflow-description.js";

/**
 * Uploads the files that are there and that the server does not have as they are now.
 *
 * @param sent size and time of change of what the server has, by name
 * @returns the same, with what was uploaded
 */
export async function sendArtifacts(
  client: MlflowClient,
  run: Run,
  folder: string,
  files: readonly ArtifactFile[],
  sent: Readonly<Record<string, string>>,
  call: CallOptions,
): Promise<Readonly<Record<string, string>>> {
  const now: Record<string, string> = { ...sent };
  for (const { path, file } of files) {
    const state = await stateOf(join(folder, file));
    if (state === null || now[path] === state) continue;
    try {
      await client.artifacts.upload(run, path, { file: join(folder, file) }, call);
      now[path] = state;
    } catch (error) {
      // A checkpoint that was replaced by a newer one meanwhile is no loss.
      if (!isMissing(error)) throw error;
    }
  }
  return now;
}

/** The files of the checkpoints that are to be artifacts, of those that are in the run folder. */
export async function checkpointFiles(
  folder: string,
  which: CheckpointArtifacts,
): Promise<readonly ArtifactFile[]> {
  if (which === "none") return [];
  const steps = (await namesIn(join(folder, "checkpoints")))
    .map((name) => /^step-(\d+)$/.exec(name))
    .filter((match) => match !== null)
    .map((match) => Number(match[1]))
    .sort((a, b) => a - b);
  const wanted = which === "last" ? steps.slice(-1) : steps;
  const lists = await Promise.all(
    wanted.map(async (step) =>
      (await namesIn(join(folder, "checkpoints", `step-${step}`))).map((name) => ({
        path: `checkpoints/step-${step}/${name}`,
        file: join("checkpoints", `step-${step}`, name),
      })),
    ),
  );
  return lists.flat();
}

/** The growth maps of a run. */
export async function growthMapFiles(folder: string): Promise<readonly ArtifactFile[]> {
  const names = await namesIn(join(folder, "growth-maps"));
  return names
    .filter((name) => /^stage-\d+\.json$/.test(name))
    .map((name) => ({ path: `growth-maps/${name}`, file: join("growth-maps", name) }));
}

/** The artifact with the growths of a run: which old layer each new one came from, and the growth maps' hashes. */
export const growthFile = "growth.json";

async function stateOf(file: string): Promise<string | null> {
  try {
    const { size, mtimeMs } = await stat(file);
    return `${size} ${mtimeMs}`;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder, { withFileTypes: true }))
      .filter((entry) => !entry.name.includes(".tmp"))
      .map((entry) => entry.name)
      .sort();
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
