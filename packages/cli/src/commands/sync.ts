import type { Command } from "commander";
import { openTerminal } from "../terminal.js";

interface SyncOptions {
  readonly to?: string;
  readonly json?: boolean;
}

/** `espalier sync`: brings recorded runs to an MLflow server. */
export function addSync(program: Command): void {
  program
    .command("sync")
    .summary("sends recorded runs to an MLflow server, each number once")
    .description(
      "Sends what run folders recorded to an MLflow server: all that is not there yet, each number once, however often it is called.",
    )
    .argument("[dirs...]", "run folders, or folders that hold some (default: runs)")
    .option("--to <uri>", "the server (default: MLFLOW_TRACKING_URI)")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Examples:
  $ espalier sync --to http://127.0.0.1:5000
  $ MLFLOW_TRACKING_URI=https://mlflow.example.org espalier sync runs/apollo-s42`,
    )
    .action(async (folders: readonly string[], options: SyncOptions) => {
      const terminal = openTerminal(options);
      const { UsageError } = await import("@espalier/core");
      const { trackingTarget } = await import("@espalier/tracking");
      const { findRuns } = await import("../tracking/find-runs.js");
      const { syncRun } = await import("../tracking/sync-runs.js");
      const { connection, why } = trackingTarget(options.to ?? "auto");
      if (connection === null)
        throw new UsageError("ESPALIER_TRACKING_URI", `no server to send to: ${why}`, {
          hint: "name one with --to http://host:port, or set MLFLOW_TRACKING_URI",
        });
      const searched = folders.length === 0 ? ["runs"] : folders;
      const found = await findRuns(searched);
      if (found.length === 0)
        throw new UsageError("ESPALIER_RUN_FOLDER", `there are no runs in ${searched.join(", ")}`, {
          hint: "a run folder has lock.json and metrics.jsonl; espalier run makes one",
        });
      const runs = [];
      for (const folder of found) {
        const run = await syncRun(folder, connection, (line) => terminal.note(`${folder}: ${line}`));
        runs.push(run);
        if (run.complete) terminal.print(`${folder}: ${run.status.toLowerCase()}, ${run.url}`);
      }
      terminal.json({ to: connection.trackingUri.replace(/\/\/[^@/]*@/, "//"), runs });
      if (runs.some(({ complete }) => !complete)) process.exitCode = 1;
    });
}
