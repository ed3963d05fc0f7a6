import type { Terminal } from "../terminal.js";
import type { SyncedRun } from "../tracking/sync-runs.js";
import { MlflowPages, placeOf } from "./mlflow-pages.js";
import type { Ui } from "./open-ui.js";
import { RunFollower } from "./run-follower.js";

/**
 * Brings runs into a server, prints where they are seen, and follows them until the signal comes.
 *
 * @param folders run folders, or folders that hold some
 * @param onShown is given the address that shows all runs
 * @throws EspalierError if our own server ends before; UsageError for a folder that is not there
 */
export async function showRuns(
  { connection, version, server, owner, checkpoints }: Ui,
  folders: readonly string[],
  {
    terminal,
    signal,
    onShown,
  }: { terminal: Terminal; signal: AbortSignal; onShown?: (page: string) => void },
): Promise<void> {
  const ending = new AbortController();
  const either = AbortSignal.any([signal, ending.signal]);
  const follower = new RunFollower(folders, connection, checkpoints, terminal.note);
  const pages = new MlflowPages(addressOf(connection.trackingUri), version);
  let failure: Error | undefined;
  void server?.ended().then((error) => {
    if (signal.aborted) return;
    failure = error;
    ending.abort();
  });
  try {
    const runs = await follower.bring(either, (done, all) => {
      if (done > 0 && done % 10 === 0) terminal.note(`${done} of ${all} runs`);
    });
    const page = describeRuns(pages, runs, { folders, version, terminal });
    onShown?.(page);
    terminal.print(`\nMLFLOW_TRACKING_URI=${pages.address} brings runs of other folders here, too.`);
    if (owner !== null) {
      terminal.print(`The server is run by process ${owner}; it is stopped there.`);
      return;
    }
    terminal.print(
      `New runs under ${folders.join(", ")} and what they log appear as they come. Ctrl-C ${server === null ? "ends that" : "stops the server; all of it is kept"}.`,
    );
    await follower.follow(either);
  } catch (error) {
    if (!either.aborted) throw error;
  } finally {
    await follower.close();
  }
  if (failure !== undefined) throw failure;
}

/** Prints the pages, and gives the one that shows all. */
function describeRuns(
  pages: MlflowPages,
  runs: readonly SyncedRun[],
  { folders, version, terminal }: { folders: readonly string[]; version: string; terminal: Terminal },
): string {
  const places = runs
    .map(({ url }) => (url === null ? null : placeOf(url)))
    .filter((place) => place !== null);
  const experiments = [...new Set(places.map(({ experimentId }) => experimentId))];
  if (places.length === 0) {
    terminal.print(`There are no runs in ${folders.join(", ")} yet; espalier run makes one.`);
    return pages.address;
  }
  const live = runs.filter(({ status }) => status === "RUNNING").length;
  const count = `${places.length} ${places.length === 1 ? "run" : "runs"}`;
  terminal.print(`MLflow ${version} has ${count}${live === 0 ? "" : `, ${live} of them still training`}:`);
  terminal.print(`  charts   ${pages.charts(experiments)}`);
  if (places.length > 1) terminal.print(`  compare  ${pages.compare(places)}`);
  else terminal.print(`  run      ${pages.run(places[0]!)}`);
  for (const id of experiments) terminal.print(`  runs     ${pages.runs(id)}`);
  return pages.charts(experiments);
}

/** Without credentials, which are for no screen. */
function addressOf(trackingUri: string): string {
  const url = new URL(trackingUri);
  return `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, "")}`;
}
