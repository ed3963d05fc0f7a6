import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { command } from "./espalier.js";

/** Whether anything of a process group is there. */
export function isRunning(group: number): boolean {
  try {
    process.kill(-group, 0);
    return true;
  } catch {
    return false;
  }
}

/** An `espalier ui` that runs. */
export class RunningUi {
  stdout = "";
  stderr = "";

  private constructor(readonly child: ChildProcess) {
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
  }

  /** Starts it and waits until it has said where the runs are seen. */
  static async start(
    args: readonly string[],
    { cwd, env = {} }: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv },
  ): Promise<RunningUi> {
    const child = spawn(process.execPath, [command, "ui", ...args], {
      cwd,
      env: { ...process.env, NO_COLOR: "1", NODE_OPTIONS: "", MLFLOW_TRACKING_URI: "", ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const ui = new RunningUi(child);
    for (let attempt = 0; !ui.stdout.includes("Ctrl-C"); attempt++) {
      if (child.exitCode !== null || attempt > 3000)
        throw new Error(`espalier ui did not come up (${child.exitCode}):\n${ui.stdout}\n${ui.stderr}`);
      await wait(50);
    }
    return ui;
  }

  /** The server's address. */
  get address(): string {
    return /MLFLOW_TRACKING_URI=(\S+)/.exec(this.stdout)?.[1] ?? "";
  }

  /** The first address that it printed behind this word. */
  page(name: "charts" | "compare" | "runs" | "run"): string {
    return new RegExp(`^ +${name} +(\\S+)$`, "m").exec(this.stdout)?.[1] ?? "";
  }

  /** The process group of the server that it started with this `ESPALIER_HOME`. */
  async serverProcess(home: string): Promise<number> {
    const stores = (await readdir(join(home, ".espalier"))).filter((name) => name.startsWith("mlflow-"));
    const record: unknown = JSON.parse(
      await readFile(join(home, ".espalier", stores[0]!, "server.json"), "utf8"),
    );
    return (record as { readonly pid: number }).pid;
  }

  /** Ends it and gives its exit code. */
  async stop(signal: NodeJS.Signals): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = once(this.child, "exit");
      this.child.kill(signal);
      await gone;
    }
    return this.child.exitCode;
  }
}
