import {
  type BackendReport,
  type Capability,
  loadBackend,
  type MachineFacts,
  machineFacts,
  reportBackends,
} from "@espalier/backends";
import { EspalierError } from "@espalier/core";
import { MlflowClient } from "@espalier/mlflow-js-client";
import { trackingTarget } from "@espalier/tracking";
import type { EngineOptions } from "./engine-options.js";
import { espalierVersion } from "./version.js";

/** What `doctor` finds. Keys are the contract of `espalier doctor --json`. */
export interface Examination {
  readonly version: string;
  readonly node: string;
  /** The chosen backend; null where none works. */
  readonly backend: string | null;
  readonly device: string | null;
  readonly threads: number | null;
  readonly libraryVersion: string | null;
  /** Why this backend, or why none. */
  readonly why: string;
  readonly fix: string | null;
  /** What the chosen backend does of itself on its device, and what another way. */
  readonly capabilities: readonly Capability[];
  /** What was wanted and is done another way, a sentence each. */
  readonly fallbacks: readonly string[];
  readonly backends: readonly BackendReport[];
  readonly machine: MachineFacts;
  readonly tracking: {
    readonly uri: string | null;
    readonly reachable: boolean | null;
    readonly why: string;
  };
}

/**
 * Looks at every backend, loads the one that a run would use, and asks the tracking server.
 *
 * @throws UsageError for a backend, device or number of threads that cannot be
 */
export async function examine(options: EngineOptions): Promise<Examination> {
  const [backends, machine, tracking] = await Promise.all([
    reportBackends(),
    machineFacts(),
    examineTracking(),
  ]);
  const chosen = await loadBackend(options).catch((error: unknown) => {
    // A device that is not there is what doctor is asked about; other wrong use is told as everywhere.
    if (error instanceof EspalierError && (error.exitCode === 1 || isMissingDevice(error))) return error;
    throw error;
  });
  const works = !(chosen instanceof EspalierError);
  return {
    version: espalierVersion(),
    node: process.version,
    backend: works ? chosen.name : null,
    device: works ? chosen.device : null,
    threads: works ? chosen.threads : null,
    libraryVersion: works ? chosen.version : null,
    why: works ? chosen.why : chosen.message,
    fix: works ? null : (chosen.hint ?? null),
    capabilities: works ? await chosen.capabilities() : [],
    fallbacks: works ? chosen.fallbacks : [],
    backends,
    machine,
    tracking,
  };
}

function isMissingDevice(error: EspalierError): boolean {
  return error.code === "ESPALIER_BACKENDS_NO_DEVICE";
}

async function examineTracking(): Promise<Examination["tracking"]> {
  const { connection, why } = trackingTarget("auto");
  if (connection === null) return { uri: null, reachable: null, why: `${why}: runs keep their own journal` };
  const uri = withoutCredentials(connection.trackingUri);
  const client = new MlflowClient({ ...connection, timeoutSeconds: 3, retries: 0 });
  try {
    return { uri, reachable: true, why: `MLflow ${await client.serverVersion()} answers` };
  } catch (error) {
    return { uri, reachable: false, why: error instanceof Error ? error.message : String(error) };
  } finally {
    client.close();
  }
}

function withoutCredentials(address: string): string {
  const url = new URL(address);
  url.username = "";
  url.password = "";
  return url.href;
}
