import { randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { artifactsAnswer, type Run } from "./answers.js";
import { MlflowInputError } from "./errors.js";
import type { Rest } from "./rest.js";
import type { CallOptions, Content, Transport } from "./transport.js";

/** A file or folder among a run's artifacts. */
export interface Artifact {
  /** Relative to the run's artifacts: `checkpoints/step-100`. */
  readonly path: string;
  readonly isFolder: boolean;
  /** Bytes; `undefined` for folders, and for empty files. */
  readonly size: number | undefined;
}

/** What is uploaded: bytes, or a file on disk, which is streamed. */
export type ArtifactContent = Uint8Array | string | { readonly file: string };

/** Which run's artifacts: what {@link Run} says of it. */
export type ArtifactPlace = Pick<Run, "runId" | "artifactUri">;

const proxy = "/api/2.0/mlflow-artifacts/artifacts";

/**
 * Files of runs, through the server's own proxy (`mlflow-artifacts:`, what a server is started with unless it is told
 * otherwise). Files are streamed: memory does not grow with their size.
 */
export class MlflowArtifacts {
  readonly #transport: Transport;
  readonly #rest: Rest;

  constructor(transport: Transport, rest: Rest) {
    this.#transport = transport;
    this.#rest = rest;
  }

  /**
   * Uploads a file; one that is there is overwritten. A text is sent as UTF-8.
   *
   * @param path relative to the run's artifacts, with `/`; folders are made
   * @throws MlflowInputError for a path that leaves the run's artifacts, or a run whose artifacts the server does not keep
   */
  async upload(
    run: ArtifactPlace,
    path: string,
    content: ArtifactContent,
    options: CallOptions = {},
  ): Promise<void> {
    const call = { method: "PUT", path: placeOf(run, path), content: await contentOf(content) } as const;
    await this.#transport.callText({ ...call, ...options });
  }

  /**
   * Downloads a file. It appears under its name when it is whole.
   *
   * @param file where to; its folder is made
   * @throws MlflowNotFoundError if there is none (servers before MLflow 3 answer 500: MlflowApiError)
   */
  async download(run: ArtifactPlace, path: string, file: string, options: CallOptions = {}): Promise<void> {
    const from = placeOf(run, path);
    await mkdir(dirname(file), { recursive: true });
    const unfinished = `${file}.${randomUUID()}.tmp`;
    try {
      await this.#transport.callText({
        method: "GET",
        path: from,
        receive: (body) => pipeline(body, createWriteStream(unfinished)),
        ...options,
      });
      await rename(unfinished, file);
    } finally {
      await rm(unfinished, { force: true });
    }
  }

  /** Reads a file into memory. @throws MlflowNotFoundError */
  async read(run: ArtifactPlace, path: string, options: CallOptions = {}): Promise<Buffer> {
    let parts: Buffer[] = [];
    await this.#transport.callText({
      method: "GET",
      path: placeOf(run, path),
      receive: async (body) => {
        parts = [];
        for await (const part of body) parts.push(part as Buffer);
      },
      ...options,
    });
    return Buffer.concat(parts);
  }

  /**
   * What is in a folder; nothing if there is no such folder.
   *
   * @param path default: the root
   */
  async list(runId: string, path = "", options: CallOptions = {}): Promise<readonly Artifact[]> {
    if (path !== "") checkPath(path);
    const query = { run_id: runId, path: path === "" ? undefined : path };
    return (await this.#rest.get("artifacts/list", query, artifactsAnswer, options)).files;
  }

  /** Removes a file, or a folder with all that is in it; one that is gone is no error. */
  async delete(run: ArtifactPlace, path: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.callText({ method: "DELETE", path: placeOf(run, path), ...options });
  }
}

function placeOf({ runId, artifactUri }: ArtifactPlace, path: string): string {
  checkPath(path);
  if (artifactUri === undefined || !artifactUri.startsWith("mlflow-artifacts:"))
    throw new MlflowInputError(
      `artifactUri: the artifacts of run ${runId} are at "${artifactUri ?? ""}", which the server does not pass on; ` +
        "start it with --serve-artifacts (and --artifacts-destination) and use an experiment made since",
      "artifactUri",
    );
  const root = new URL(artifactUri).pathname.replace(/\/+$/, "");
  return `${proxy}${root.startsWith("/") ? root : `/${root}`}/${path.split("/").map(encodeURIComponent).join("/")}`;
}

/** An address resolves `..` before it is sent, and would reach another run's files. */
function checkPath(path: string): void {
  const parts = path.split("/");
  const isSafe = parts.every((part) => part !== "" && part !== "." && part !== "..");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what no file name should have
  if (!isSafe || /[#\\\u0000-\u001f]/.test(path))
    throw new MlflowInputError(
      `path: expected a relative path such as plots/loss.svg, without ., .., #, \\ and empty parts, not "${path}"`,
      "path",
    );
}

async function contentOf(content: ArtifactContent): Promise<Content> {
  if (typeof content === "string" || content instanceof Uint8Array) {
    const bytes = typeof content === "string" ? Buffer.from(content, "utf8") : content;
    return { bytes: bytes.length, open: () => Readable.from(bytes.length === 0 ? [] : [bytes]) };
  }
  const { size } = await stat(content.file);
  // A file that grows meanwhile is sent up to the length that was announced.
  return {
    bytes: size,
    open: () => (size === 0 ? Readable.from([]) : createReadStream(content.file, { end: size - 1 })),
  };
}
