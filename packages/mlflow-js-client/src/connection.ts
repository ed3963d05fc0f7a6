import { readFileSync } from "node:fs";
import { MlflowInputError } from "./errors.js";

/** Where the server is, and how it is talked to. */
export interface ConnectionOptions {
  /** `http(s)://host[:port][/prefix]`; a user and password in it are used as `username` and `password`. */
  readonly trackingUri: string;
  /** HTTP Basic; goes before `token`, as in MLflow's own client, where there is a password too. */
  readonly username?: string;
  /** For `username`. */
  readonly password?: string;
  /** Bearer token. */
  readonly token?: string;
  /** Accept any TLS certificate. */
  readonly insecureTls?: boolean;
  /** PEM certificates to trust instead of the system's. */
  readonly certificates?: string;
  /** PEM certificate and private key in one text, for servers that want to know their clients by these. */
  readonly clientCertificate?: string;
  /** Seconds for one attempt, answer included. Default 120. */
  readonly timeoutSeconds?: number;
  /** Attempts after the first. Default 5. */
  readonly retries?: number;
  /** Seconds before the first retry; doubled for each later one, with up to a quarter added at random. Default 0.5. */
  readonly backoffSeconds?: number;
}

/** {@link ConnectionOptions} with all defaults filled in, and the credentials as a header. */
export interface Connection {
  /** Without credentials and without a slash at the end. */
  readonly address: string;
  readonly authorization: string | undefined;
  readonly insecureTls: boolean;
  readonly certificates: string | undefined;
  readonly clientCertificate: string | undefined;
  readonly timeoutSeconds: number;
  readonly retries: number;
  readonly backoffSeconds: number;
}

/** @throws MlflowInputError if the address is not one */
export function connectionOf(options: ConnectionOptions): Connection {
  let url: URL;
  try {
    url = new URL(options.trackingUri);
  } catch {
    throw new MlflowInputError(
      `trackingUri: expected http(s)://host[:port], not "${options.trackingUri}"`,
      "trackingUri",
    );
  }
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw new MlflowInputError(
      `trackingUri: expected http(s)://host[:port], not "${url.protocol}…": this client talks to a server over REST`,
      "trackingUri",
    );
  const username = options.username ?? decodeURIComponent(url.username);
  const password = options.password ?? decodeURIComponent(url.password);
  return {
    address: `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, "")}`,
    authorization: authorizationOf(username, password, options.token),
    insecureTls: options.insecureTls ?? false,
    certificates: options.certificates,
    clientCertificate: options.clientCertificate,
    timeoutSeconds: options.timeoutSeconds ?? 120,
    retries: options.retries ?? 5,
    backoffSeconds: options.backoffSeconds ?? 0.5,
  };
}

function authorizationOf(username: string, password: string, token: string | undefined): string | undefined {
  if (username !== "" && password !== "")
    return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
  return token === undefined || token === "" ? undefined : `Bearer ${token}`;
}

/**
 * Reads what MLflow's own client reads: `MLFLOW_TRACKING_URI`, `_USERNAME`, `_PASSWORD`, `_TOKEN`, `_INSECURE_TLS`,
 * `_SERVER_CERT_PATH`, `_CLIENT_CERT_PATH` and `MLFLOW_HTTP_REQUEST_TIMEOUT`, `_MAX_RETRIES`.
 *
 * @param environment default: the process's
 * @throws MlflowInputError if `MLFLOW_TRACKING_URI` is missing or a variable's value is not one
 */
export function connectionFromEnvironment(
  environment: Readonly<Record<string, string | undefined>> = process.env,
): ConnectionOptions {
  const text = (name: string): string | undefined => environment[name] || undefined;
  const trackingUri = text("MLFLOW_TRACKING_URI");
  if (trackingUri === undefined)
    throw new MlflowInputError(
      "MLFLOW_TRACKING_URI is not set; expected http(s)://host[:port]",
      "MLFLOW_TRACKING_URI",
    );
  return { trackingUri, ...credentialsFromEnvironment(environment) };
}

/** {@link connectionFromEnvironment} without the address, for a server that is named elsewhere. */
export function credentialsFromEnvironment(
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Omit<ConnectionOptions, "trackingUri"> {
  const text = (name: string): string | undefined => environment[name] || undefined;
  const username = text("MLFLOW_TRACKING_USERNAME");
  const password = text("MLFLOW_TRACKING_PASSWORD");
  const token = text("MLFLOW_TRACKING_TOKEN");
  const certificates = fileOf("MLFLOW_TRACKING_SERVER_CERT_PATH", text("MLFLOW_TRACKING_SERVER_CERT_PATH"));
  const clientCertificate = fileOf(
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    text("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
  );
  const timeoutSeconds = wholeNumber("MLFLOW_HTTP_REQUEST_TIMEOUT", text("MLFLOW_HTTP_REQUEST_TIMEOUT"), 1);
  const retries = wholeNumber("MLFLOW_HTTP_REQUEST_MAX_RETRIES", text("MLFLOW_HTTP_REQUEST_MAX_RETRIES"), 0);
  return {
    insecureTls: isTrue("MLFLOW_TRACKING_INSECURE_TLS", text("MLFLOW_TRACKING_INSECURE_TLS")),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(token !== undefined && { token }),
    ...(certificates !== undefined && { certificates }),
    ...(clientCertificate !== undefined && { clientCertificate }),
    ...(timeoutSeconds !== undefined && { timeoutSeconds }),
    ...(retries !== undefined && { retries }),
  };
}

function isTrue(name: string, value: string | undefined): boolean {
  if (value === undefined || /^(false|0)$/i.test(value)) return false;
  if (/^(true|1)$/i.test(value)) return true;
  throw new MlflowInputError(`${name}: expected true, false, 1 or 0, not "${value}"`, name);
}

function wholeNumber(name: string, value: string | undefined, least: number): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (Number.isSafeInteger(number) && number >= least) return number;
  throw new MlflowInputError(`${name}: expected a whole number from ${least}, not "${value}"`, name);
}

function fileOf(name: string, path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new MlflowInputError(
      `${name}: cannot read ${path}: ${error instanceof Error ? error.message : error}`,
      name,
    );
  }
}
