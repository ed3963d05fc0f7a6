import type { Command } from "commander";
import { openTerminal } from "../terminal.js";

interface UiOptions {
  readonly port?: string;
  readonly server?: string;
  readonly open?: boolean;
}

/** `espalier ui`: the runs in MLflow's web page. */
export function addUi(program: Command): void {
  program
    .command("ui")
    .summary("shows runs in MLflow's web page, those that train live")
    .description(
      "Starts an MLflow server on this machine, brings every run under the given folders into it, once, and follows those that train. Ctrl-C stops it; the next time all is there again. MLflow is installed at the first use, into .venv-mlflow.",
    )
    .argument("[dirs...]", "run folders, or folders that hold some (default: runs)")
    .option("--port <port>", "listen there (default: the port of the last time, else a free one)")
    .option("--server <uri>", "show the runs in this MLflow server (2 or 3) instead of starting one")
    .option("--open", "open the page in the browser")
    .addHelpText(
      "after",
      `
Environment:
  ESPALIER_MLFLOW   a Python, or a virtual environment, with the mlflow to start instead

Examples:
  $ espalier ui
  $ espalier ui runs/apollo-s42 runs/scratch-s42 --port 5000
  $ espalier ui --server http://mlflow.example.org:5000`,
    )
    .action(async (given: readonly string[], options: UiOptions) => {
      const terminal = openTerminal({});
      const { parsePort } = await import("../ui/ports.js");
      const port = options.port === undefined ? undefined : parsePort(options.port);
      const folders = given.length === 0 ? ["runs"] : given;
      const { openUi } = await import("../ui/open-ui.js");
      const { showRuns } = await import("../ui/show-runs.js");
      const { openBrowser } = await import("../ui/open-browser.js");
      const { heedStop } = await import("../ui/heed-stop.js");
      const { signal, release } = heedStop(terminal.note);
      try {
        const ui = await openUi({ folders, port, server: options.server, terminal, signal });
        try {
          await showRuns(ui, folders, {
            terminal,
            signal,
            ...(options.open === true && { onShown: (page: string) => openBrowser(page, terminal.note) }),
          });
        } finally {
          await ui.server?.stop();
        }
      } catch (error) {
        if (!signal.aborted) throw error;
      } finally {
        release();
      }
    });
}
