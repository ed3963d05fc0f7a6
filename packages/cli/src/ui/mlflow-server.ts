import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { EspalierError } from "@espalier/core";
import { type MlflowProgram, startFailure } from "./mlflow-program.js";
import { loopback } from "./ports.js";
import { isAlive, writeRecord } from "./server-record.js";

/** A first start makes the database and reads a cold disk. */
const startSeconds = 180;
/** A server that does not end by itself in this time is killed. */
const stopSeconds = 10;
const logFile = "server.log";

/** How a server is started. */
export interface ServerStart {
  readonly program: MlflowProgram;
  /** Holds database, artifacts and log; kept. */
  readonly store: string;
  readonly port: number;
  readonly signal: AbortSignal;
}

/** A real MLflow server over SQLite, in a process group of its own: one worker, no jobs, no telemetry, loopback only. */
export class MlflowServer {
  private constructor(
    readonly child: ChildProcess,
    readonly port: number,
    readonly store: string,
  ) {}

  /**
   * Starts it and waits until it answers.
   *
   * @throws EspalierError with the last lines of its log where it ends instead; the signal's reason when that comes first
   */
  static async start({ program, store, port, signal }: ServerStart): Promise<MlflowServer> {
    const log = openSync(join(store, logFile), "w");
    const child = spawn(program.python, commandLine(store, port), {
      cwd: store,
      // The terminal's Ctrl-C must not reach it: it is stopped when what it still gets has arrived.
      detached: true,
      stdio: ["ignore", log, log],
      env: environment(),
    });
    closeSync(log);
    const server = new MlflowServer(child, port, store);
    process.on("exit", server.#kill);
    let problem: Error | undefined;
    child.on("error", (error) => {
      problem = error;
    });
    try {
      // At once: a server whose espalier ui is killed must be found, however early that is.
      if (child.pid !== undefined) await writeRecord(store, { pid: child.pid, owner: process.pid, port });
      const deadline = Date.now() + startSeconds * 1000;
      while (!(await server.#answers())) {
        signal.throwIfAborted();
        if (
          problem !== undefined ||
          child.exitCode !== null ||
          child.signalCode !== null ||
          Date.now() > deadline
        )
          throw await server.#failure(program, problem);
        await wait(100, undefined, { signal });
      }
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  get address(): string {
    return `http://${loopback}:${this.port}`;
  }

  /** Resolves when the server has ended, with why as far as its log says. */
  async ended(): Promise<EspalierError> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, "exit");
    return new EspalierError(
      "ESPALIER_MLFLOW_ENDED",
      `the MLflow server ended by itself; the last it said:\n${lastLines(await this.#log())}`,
      { file: join(this.store, logFile) },
    );
  }

  /** Ends the whole group, in order if it can. Resolves when it is gone. */
  async stop(): Promise<void> {
    await stopGroup(this.child.pid);
    process.off("exit", this.#kill);
  }

  /** Whatever ends this process ends the server. */
  readonly #kill = (): void => signalGroup(this.child.pid, "SIGKILL");

  async #answers(): Promise<boolean> {
    try {
      return (await fetch(`${this.address}/health`, { signal: AbortSignal.timeout(2000) })).ok;
    } catch {
      return false;
    }
  }

  async #failure(program: MlflowProgram, problem: Error | undefined): Promise<Error> {
    const log = await this.#log();
    return startFailure(log, problem?.message ?? lastLines(log), program);
  }

  #log(): Promise<string> {
    return readFile(join(this.store, logFile), "utf8").catch(() => "");
  }
}

function commandLine(store: string, port: number): readonly string[] {
  return [
    ...["-m", "mlflow", "server", "--workers", "1", "--host", loopback, "--port", String(port)],
    ...["--backend-store-uri", `sqlite:///${join(store, "mlflow.db")}`],
    ...["--artifacts-destination", join(store, "artifacts")],
  ];
}

// What a user set for MLflow's client, or for another server, is not for this one.
function environment(): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("MLFLOW_"));
  return {
    ...Object.fromEntries(inherited),
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION: "false",
    MLFLOW_DISABLE_TELEMETRY: "true",
  };
}

/** Ends a process group: in order, and by force if that takes too long. */
export async function stopGroup(pid: number | undefined): Promise<void> {
  if (pid === undefined) return;
  for (const [name, seconds] of [
    ["SIGTERM", stopSeconds],
    ["SIGKILL", 2],
  ] as const) {
    signalGroup(pid, name);
    for (const end = Date.now() + seconds * 1000; Date.now() < end; await wait(50))
      if (!isAlive(-pid)) return;
  }
}

function signalGroup(pid: number | undefined, name: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, name);
  } catch {
    // Gone already.
  }
}

function lastLines(text: string): string {
  return text.trimEnd().split("\n").slice(-5).join("\n");
}
