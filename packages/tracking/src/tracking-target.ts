import { UsageError } from "@espalier/core";
import {
  type ConnectionOptions,
  credentialsFromEnvironment,
  MlflowClient,
  MlflowError,
} from "@espalier/mlflow-js-client";

/** Where a run is tracked beside its own journal. */
export interface TrackingTarget {
  /** `null`: the journal alone. */
  readonly connection: ConnectionOptions | null;
  /** Why, in words: `MLFLOW_TRACKING_URI is set`. */
  readonly why: string;
}

/**
 * What a definition's `tracking.uri` means: `none` is the journal alone, `auto` also the server that
 * `MLFLOW_TRACKING_URI` names, if it does, and `http(s)://…` that server. Credentials come from the environment, as
 * MLflow's own client reads them.
 *
 * An address in the environment that is no server's (`mlruns`, `sqlite:///…`: MLflow's Python opens these itself) is
 * passed over, for it was not set for us; in a definition it is an error.
 *
 * @throws UsageError ESPALIER_TRACKING_URI
 */
export function trackingTarget(
  setting: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): TrackingTarget {
  if (setting === "none") return { connection: null, why: "tracking.uri is none" };
  const inherited = environment.MLFLOW_TRACKING_URI;
  if (setting === "auto") {
    if (!inherited) return { connection: null, why: "MLFLOW_TRACKING_URI is not set" };
    if (!isServer(inherited))
      return {
        connection: null,
        why: `MLFLOW_TRACKING_URI is not a server's http(s) address: "${inherited}"`,
      };
    return { connection: connectionTo(inherited, environment), why: "MLFLOW_TRACKING_URI is set" };
  }
  if (!isServer(setting))
    throw new UsageError(
      "ESPALIER_TRACKING_URI",
      `tracking.uri: expected auto, none or http(s)://host[:port], not "${setting}"`,
      {
        key: "tracking.uri",
        hint: "MLflow's file stores are not written; the run's own journal is always kept",
      },
    );
  return { connection: connectionTo(setting, environment), why: "tracking.uri names it" };
}

function connectionTo(
  trackingUri: string,
  environment: Readonly<Record<string, string | undefined>>,
): ConnectionOptions {
  try {
    const connection = { trackingUri, ...credentialsFromEnvironment(environment) };
    // Says what else is wrong with it, such as a proxy that is none.
    new MlflowClient(connection).close();
    return connection;
  } catch (error) {
    if (!(error instanceof MlflowError)) throw error;
    throw new UsageError("ESPALIER_TRACKING_URI", error.message, { cause: error });
  }
}

function isServer(text: string): boolean {
  return /^https?:\/\//i.test(text) && URL.canParse(text);
}
