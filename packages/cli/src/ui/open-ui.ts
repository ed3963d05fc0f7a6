import { withSetupLock } from "@espalier/backends";
import { EspalierError, UsageError } from "@espalier/core";
import { type ConnectionOptions, MlflowClient } from "@espalier/mlflow-js-client";
import { trackingTarget } from "@espalier/tracking";
import type { Terminal } from "../terminal.js";
import { findRuns } from "../tracking/find-runs.js";
import { findMlflow } from "./mlflow-program.js";
import { MlflowServer, stopGroup } from "./mlflow-server.js";
import { choosePort, loopback } from "./ports.js";
import { isAlive, isServing, readRecord, storeFolder } from "./server-record.js";

/** What `espalier ui` shows runs in. */
export interface Ui {
  readonly connection: ConnectionOptions;
  /** The server's. */
  readonly version: string;
  /** Ours to stop; `null` where it was running before. */
  readonly server: MlflowServer | null;
  /** The `espalier ui` that runs it, where it is another one. */
  readonly owner: number | null;
  /**
   * Which checkpoints are brought: to our own server none, for it is on the disk that has them already, and they are large;
   * `undefined`: those that a run's definition says.
   */
  readonly checkpoints: "none" | undefined;
}

export interface UiRequest {
  readonly folders: readonly string[];
  readonly port: number | undefined;
  /** A server of the user's own. */
  readonly server: string | undefined;
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
}

/**
 * Opens what the runs are shown in: the server that is named, the one that another `espalier ui` runs, or a new one.
 *
 * @throws EspalierError with what is missing and how to get it; UsageError for a folder that is not there
 */
export async function openUi(request: UiRequest): Promise<Ui> {
  // Half a minute of installing for a folder with a typing error in its name would be no service.
  await findRuns(request.folders);
  if (request.server !== undefined) return namedServer(request.server, request.port);
  askDirectly(loopback);
  const program = await findMlflow(request.terminal.note);
  const store = await storeFolder(program.version);
  // Two at once would both find no server.
  return withSetupLock(request.terminal.note, async () => {
    const record = await readRecord(store);
    if (record !== null && (await isServing(store, record))) {
      if (isAlive(record.owner)) return runningServer(record.port, record.owner, request.port);
      // Its owner was killed: without one it would run for ever.
      request.terminal.note("stopping the server that an espalier ui left behind when it was killed");
      await stopGroup(record.pid);
    }
    const port = await choosePort(request.port, record?.port);
    request.terminal.note(`starting MLflow ${program.version} on port ${port}`);
    const server = await MlflowServer.start({ program, store, port, signal: request.signal });
    return {
      connection: { trackingUri: server.address },
      version: program.version,
      server,
      owner: null,
      checkpoints: "none",
    };
  });
}

/** A proxy of the environment (`HTTP_PROXY`) cannot reach this machine's own addresses. */
function askDirectly(host: string): void {
  const before = process.env.no_proxy ?? process.env.NO_PROXY ?? "";
  const hosts = before === "" ? host : `${before},${host}`;
  process.env.no_proxy = hosts;
  process.env.NO_PROXY = hosts;
}

async function namedServer(uri: string, port: number | undefined): Promise<Ui> {
  if (port !== undefined)
    throw new UsageError("ESPALIER_UI_OPTIONS", "--server and --port exclude one another", {
      hint: "--server names a server that runs already",
    });
  const { connection, why } = trackingTarget(uri);
  if (connection === null) throw new UsageError("ESPALIER_TRACKING_URI", `no server to show runs in: ${why}`);
  return {
    connection,
    version: await versionOf(connection),
    server: null,
    owner: null,
    checkpoints: undefined,
  };
}

async function runningServer(port: number, owner: number, wanted: number | undefined): Promise<Ui> {
  const connection = { trackingUri: `http://${loopback}:${port}` };
  if (wanted !== undefined && wanted !== port)
    throw new EspalierError(
      "ESPALIER_UI_RUNNING",
      `an espalier ui runs already, at ${connection.trackingUri} (process ${owner})`,
      { hint: `stop that one first (kill ${owner}), or leave out --port to use it` },
    );
  return { connection, version: await versionOf(connection), server: null, owner, checkpoints: "none" };
}

/** Asks a server once. @throws EspalierError if it is none, or does not answer */
async function versionOf(connection: ConnectionOptions): Promise<string> {
  const client = new MlflowClient({ ...connection, timeoutSeconds: 20, retries: 1 });
  try {
    return await client.serverVersion();
  } catch (cause) {
    throw new EspalierError(
      "ESPALIER_TRACKING_SERVER",
      cause instanceof Error ? cause.message : String(cause),
      {
        cause,
      },
    );
  } finally {
    client.close();
  }
}
