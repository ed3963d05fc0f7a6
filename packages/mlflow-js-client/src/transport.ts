import { randomInt } from "node:crypto";
import { type Agent, request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as wait } from "node:timers/promises";
import { agentFor, proxyFor, tlsOptions } from "./agents.js";
import type { Connection } from "./connection.js";
import {
  MlflowAlreadyExistsError,
  MlflowApiError,
  MlflowAuthenticationError,
  MlflowConnectionError,
  type MlflowError,
  MlflowNotFoundError,
  MlflowResponseError,
} from "./errors.js";

/** Options of every call. */
export interface CallOptions {
  /** Ends the call, its retries included; it rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Is called whenever a part of a file has gone through, for those who watch over slow uploads and downloads. */
  readonly onProgress?: (() => void) | undefined;
}

/** A request's body that is not JSON. It can be opened again, for another attempt. */
export interface Content {
  /** Its length in bytes. */
  readonly bytes: number;
  open(): Readable;
}

export interface Call extends CallOptions {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Behind the server's address: `/api/2.0/mlflow/runs/get`. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>> | undefined;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is, instead of `body`. The time limit then counts from the last byte that moved. */
  readonly content?: Content | undefined;
  /**
   * Takes a successful answer's body instead of its text being given; called again from the start at another attempt.
   * The time limit then counts from the last byte that moved.
   */
  readonly receive?: ((body: Readable) => Promise<void>) | undefined;
  /**
   * Sending it twice is not the same as once: it is retried only where the server certainly did not act on it, and
   * never sent over a connection that the server may be closing.
   */
  readonly once?: boolean;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** Before these the request was not sent, or not acted on. */
const neverActedOn: ReadonlySet<string> = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH"]);
const longestWaitSeconds = 60;

/** One server: connections, credentials, time limits, retries, and what its answers mean. */
export class Transport {
  readonly #agent: Agent;
  /** For calls that must not go over a connection that the server may be closing. */
  readonly #freshAgent: Agent;
  readonly #send: typeof httpRequest;
  /** Where to, and through what: for messages. */
  readonly #way: string;

  /** @throws MlflowInputError for a proxy that is not http(s) */
  constructor(readonly connection: Connection) {
    this.#send = connection.address.startsWith("https:") ? httpsRequest : httpRequest;
    const proxy = proxyFor(connection.address);
    this.#way = connection.address + (proxy === undefined ? "" : ` through the proxy ${proxy.host}`);
    this.#agent = agentFor(connection.address, proxy, true);
    this.#freshAgent = agentFor(connection.address, proxy, false);
  }

  /** Closes idle connections. */
  close(): void {
    this.#agent.destroy();
    this.#freshAgent.destroy();
  }

  /** Sends a call and gives the answer's text. @throws MlflowError */
  async callText(call: Call): Promise<string> {
    for (let attempt = 0; ; attempt++) {
      call.signal?.throwIfAborted();
      let failure: MlflowError;
      let retryAfter: number | undefined;
      let mayRetry: boolean;
      try {
        const answer = await this.#attempt(call);
        if (answer.status === 200) return answer.text;
        failure = refusal(call, this.connection.address, answer);
        mayRetry = call.once === true ? isNotActedOn(answer.status) : isPassing(answer.status);
        retryAfter = retryAfterSeconds(answer.headers["retry-after"]);
      } catch (error) {
        call.signal?.throwIfAborted();
        if (!(error instanceof MlflowConnectionError)) throw error;
        failure = error;
        mayRetry = call.once !== true || neverActedOn.has(error.code);
      }
      if (!mayRetry || attempt >= this.connection.retries) throw failure;
      await wait(1000 * (retryAfter ?? this.#backoff(attempt)), undefined, { signal: call.signal }).catch(
        () => call.signal?.throwIfAborted(),
      );
    }
  }

  /** Sends a call and gives the answer's JSON. @throws MlflowError */
  async callJson(call: Call): Promise<unknown> {
    const text = await this.callText(call);
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new MlflowResponseError(
        `${this.connection.address}${call.path} answered ${describeText(text)} instead of JSON; is it an MLflow server?`,
        200,
        { cause: error },
      );
    }
  }

  #backoff(attempt: number): number {
    const seconds = this.connection.backoffSeconds * 2 ** attempt;
    return Math.min(longestWaitSeconds, seconds * (1 + randomInt(1000) / 4000));
  }

  #attempt(call: Call): Promise<Answer> {
    const { address, authorization, timeoutSeconds } = this.connection;
    const url = new URL(address + call.path);
    for (const [key, value] of Object.entries(call.query ?? {}))
      if (value !== undefined) url.searchParams.set(key, String(value));
    const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body), "utf8");
    const isLong = call.content !== undefined || call.receive !== undefined;
    const limit = new TimeLimit(timeoutSeconds, isLong ? "idle" : "whole");
    const moved = (): void => {
      limit.restart();
      call.onProgress?.();
    };
    const signal = call.signal === undefined ? limit.signal : AbortSignal.any([limit.signal, call.signal]);
    return new Promise<Answer>((resolve, reject) => {
      const fail = (error: Error) =>
        reject(
          limit.signal.aborted
            ? new MlflowConnectionError(
                `${this.#way} did not answer within ${timeoutSeconds} seconds`,
                "ETIMEDOUT",
                { cause: error },
              )
            : connectionFailure(this.#way, error),
        );
      const request = this.#send(
        url,
        {
          method: call.method,
          agent: call.once === true ? this.#freshAgent : this.#agent,
          signal,
          ...tlsOptions(this.connection),
          headers: {
            accept: "application/json",
            ...(authorization !== undefined && { authorization }),
            ...(body !== undefined && { "content-type": "application/json", "content-length": body.length }),
            ...(call.content !== undefined && {
              "content-type": "application/octet-stream",
              "content-length": call.content.bytes,
            }),
          },
        },
        (response) => {
          response.on("error", fail);
          const status = response.statusCode ?? 0;
          const { headers } = response;
          if (call.receive !== undefined && status === 200) {
            response.on("data", moved);
            response.pause();
            call.receive(response).then(
              () => resolve({ status, headers, text: "" }),
              // What the receiver itself could not do (a full disk) is no matter of the connection.
              (error: unknown) => (response.complete || !isBroken(error) ? reject(error) : fail(error)),
            );
            return;
          }
          const parts: Buffer[] = [];
          response.on("data", (part: Buffer) => parts.push(part));
          response.on("end", () => resolve({ status, headers, text: Buffer.concat(parts).toString("utf8") }));
        },
      );
      request.on("error", fail);
      if (call.content === undefined) request.end(body);
      else {
        const stream = call.content.open();
        stream.on("data", moved);
        let unreadable: unknown;
        stream.on("error", (error) => {
          unreadable = error;
        });
        // A server that refuses answers before it has read all: then the answer counts, not the broken pipe.
        pipeline(stream, request).catch((error: Error) =>
          unreadable === undefined ? fail(error) : reject(error),
        );
      }
    }).finally(limit.clear);
  }
}

/** Aborts after a time: from the start, or from the last sign of life. */
class TimeLimit {
  readonly #controller = new AbortController();
  readonly #milliseconds: number;
  #timer: NodeJS.Timeout;

  constructor(
    seconds: number,
    readonly kind: "whole" | "idle",
  ) {
    this.#milliseconds = seconds * 1000;
    this.#timer = setTimeout(this.#abort, this.#milliseconds);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  readonly restart = (): void => {
    if (this.kind === "idle") this.#timer.refresh();
  };

  readonly clear = (): void => clearTimeout(this.#timer);

  readonly #abort = (): void => this.#controller.abort(new Error("time limit"));
}

/** Whether an error is the connection's own. */
function isBroken(error: unknown): error is Error {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return (
    error instanceof Error &&
    (error.name === "AbortError" ||
      code === "ECONNRESET" ||
      code === "ERR_STREAM_PREMATURE_CLOSE" ||
      code === "EPIPE" ||
      code === "ABORT_ERR")
  );
}

/** Statuses that may be different next time. 501 and 505 say that the server cannot do it. */
function isPassing(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
}

function isNotActedOn(status: number): boolean {
  return status === 429 || status === 503;
}

function retryAfterSeconds(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(longestWaitSeconds, Math.max(0, seconds)) : undefined;
}

function connectionFailure(way: string, error: Error): MlflowConnectionError {
  // A name with several addresses fails with one error for each.
  const first = error instanceof AggregateError && error.errors[0] instanceof Error ? error.errors[0] : error;
  const code = "code" in first && typeof first.code === "string" ? first.code : "ECONNRESET";
  const explained: Record<string, string> = {
    ECONNREFUSED: "nothing is listening there",
    ENOTFOUND: "no such host",
    EAI_AGAIN: "the host's name could not be looked up",
    ECONNRESET: "the connection broke",
    EPIPE: "the connection broke",
    DEPTH_ZERO_SELF_SIGNED_CERT:
      "its certificate is self-signed (MLFLOW_TRACKING_INSECURE_TLS=true accepts it)",
    SELF_SIGNED_CERT_IN_CHAIN:
      "its certificate is self-signed (MLFLOW_TRACKING_INSECURE_TLS=true accepts it)",
  };
  return new MlflowConnectionError(`cannot reach ${way}: ${explained[code] ?? first.message}`, code, {
    cause: error,
  });
}

function refusal(call: Call, address: string, { status, headers, text }: Answer): MlflowError {
  const { code, message } = serverError(text);
  if (status === 401 || status === 403) return authenticationFailure(address, status, code, message ?? text);
  if (code === undefined || message === undefined) {
    const location = headers.location === undefined ? "" : `, redirecting to ${headers.location}`;
    return new MlflowResponseError(
      `${address}${call.path} answered ${status}${location} with ${describeText(text)}; is it an MLflow server?`,
      status,
    );
  }
  const said = `${call.path.replace(/^\/api\/2\.0\/mlflow\//, "")}: ${message}`;
  if (code === "RESOURCE_DOES_NOT_EXIST") return new MlflowNotFoundError(said, code, status);
  if (code === "RESOURCE_ALREADY_EXISTS") return new MlflowAlreadyExistsError(said, code, status);
  return new MlflowApiError(said, code, status);
}

function authenticationFailure(
  address: string,
  status: number,
  code: string | undefined,
  message: string,
): MlflowError {
  const hint = /invalid host header/i.test(message)
    ? " (the server was started without --allowed-hosts for this name)"
    : status === 401
      ? " (set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN)"
      : "";
  return new MlflowAuthenticationError(
    `${address} refuses (${status}): ${oneLine(message, 200)}${hint}`,
    code ?? (status === 401 ? "UNAUTHENTICATED" : "PERMISSION_DENIED"),
    status,
  );
}

function serverError(text: string): { code?: string; message?: string } {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || !("error_code" in value)) return {};
    const message = "message" in value ? String(value.message) : "";
    return { code: String(value.error_code), message: oneLine(message, 1000) };
  } catch {
    return {};
  }
}

function describeText(text: string): string {
  if (text.trim() === "") return "nothing";
  if (/^\s*<(!doctype|html)/i.test(text)) return "a web page";
  return `"${oneLine(text, 100)}"`;
}

function oneLine(text: string, longest: number): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length <= longest ? line : `${line.slice(0, longest)}…`;
}
