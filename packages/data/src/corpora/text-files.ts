import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, resolve } from "node:path";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { EspalierError, suggest, UsageError } from "@espalier/core";
import { errorCode } from "../cache.js";

/** Which files a corpus is made of. */
export interface FileSelection {
  /** Paths of files and folders, and glob patterns. */
  readonly files: readonly string[];
  /** The folder that relative paths start from. */
  readonly baseDirectory: string;
  /** What a folder's files must end in, `.gz` after it allowed. */
  readonly extensions: readonly string[];
  /** The corpus's name, for messages. */
  readonly corpus: string;
}

/**
 * Finds the files: in the order in which they were given, those of a folder (with its subfolders) or a pattern by name;
 * each file once.
 *
 * @throws UsageError ESPALIER_CORPUS_MISSING for a path that does not exist or a pattern that matches nothing
 */
export async function findFiles(selection: FileSelection): Promise<string[]> {
  const { glob, isDynamicPattern } = await import("tinyglobby");
  const found = new Set<string>();
  for (const given of selection.files) {
    const path = resolve(selection.baseDirectory, given);
    const kind = await kindOf(path);
    if (kind === "file") {
      found.add(path);
      continue;
    }
    if (kind === null && !isDynamicPattern(given)) throw await missing(selection, given, path);
    const patterns =
      kind === "folder"
        ? selection.extensions.flatMap((end) => [`**/*${end}`, `**/*${end}.gz`])
        : [forGlob(given)];
    const matches = await glob(patterns, {
      cwd: kind === "folder" ? path : selection.baseDirectory,
      absolute: true,
      onlyFiles: true,
      expandDirectories: false,
      caseSensitiveMatch: kind !== "folder",
    });
    if (matches.length === 0)
      throw new UsageError(
        "ESPALIER_CORPUS_MISSING",
        kind === "folder"
          ? `the folder holds no text: no file that ends in ${selection.extensions.join(", ")} (or these with .gz)`
          : `no file matches the pattern "${given}" in ${selection.baseDirectory}`,
        {
          key: "data.corpus.files",
          ...(kind === "folder"
            ? { file: path, hint: `other endings: give a pattern, as ${given}/**/*.rst` }
            : {}),
        },
      );
    for (const match of matches.map((match) => resolve(match)).sort(byCodeUnit)) found.add(match);
  }
  return [...found];
}

/**
 * SHA-256 over names (relative to the base folder, so that a moved folder keeps its hash) and contents, in order.
 */
export async function hashFiles(paths: readonly string[], baseDirectory: string): Promise<string> {
  const hash = createHash("sha256");
  for (const path of paths) {
    const content = createHash("sha256");
    for await (const chunk of readRaw(path)) content.update(chunk);
    hash.update(`${relative(baseDirectory, path)}\0${content.digest("hex")}\n`);
  }
  return hash.digest("hex");
}

/** Bytes of all files, or null if one is compressed. */
export async function bytesOf(paths: readonly string[]): Promise<number | null> {
  let total = 0;
  for (const path of paths) {
    if (path.endsWith(".gz")) return null;
    total += (await stat(path)).size;
  }
  return total;
}

/** The whole text of a file; a `.gz` is unpacked, a byte order mark left out. */
export async function readText(path: string): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of readUnpacked(path)) chunks.push(chunk);
  try {
    return new TextDecoder().decode(Buffer.concat(chunks));
  } catch (error) {
    if (errorCode(error) !== "ERR_STRING_TOO_LONG" && !(error instanceof RangeError)) throw error;
    throw new EspalierError("ESPALIER_CORPUS_UNREADABLE", "the file is too large to be one document", {
      file: path,
      hint: "set data.corpus.separator: blank-line",
      cause: error,
    });
  }
}

/** The lines of a file, without their ends (`\n` or `\r\n`), read as they are wanted. */
export async function* readLines(path: string): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of readUnpacked(path)) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield withoutReturn(line);
  }
  rest += decoder.decode();
  if (rest !== "") yield withoutReturn(rest);
}

function withoutReturn(line: string): string {
  return line.endsWith("\r") ? line.slice(0, -1) : line;
}

async function* readUnpacked(path: string): AsyncGenerator<Buffer> {
  if (!path.endsWith(".gz")) {
    yield* readRaw(path);
    return;
  }
  const gunzip = createGunzip();
  const packed = Readable.from(readRaw(path));
  packed.once("error", (error) => gunzip.destroy(error));
  try {
    yield* packed.pipe(gunzip) as AsyncIterable<Buffer>;
  } catch (error) {
    if (errorCode(error)?.startsWith("Z_") !== true) throw error;
    throw new EspalierError(
      "ESPALIER_CORPUS_UNREADABLE",
      `not a whole gzip file: ${error instanceof Error ? error.message : String(error)}`,
      { file: path, cause: error },
    );
  } finally {
    packed.destroy();
  }
}

async function* readRaw(path: string): AsyncGenerator<Buffer> {
  try {
    yield* createReadStream(path, { highWaterMark: 1024 * 1024 }) as AsyncIterable<Buffer>;
  } catch (error) {
    const code = errorCode(error);
    if (code !== "ENOENT" && code !== "EACCES" && code !== "EPERM") throw error;
    throw new UsageError(
      "ESPALIER_CORPUS_MISSING",
      code === "ENOENT" ? "the file is gone" : "the file may not be read: no permission",
      { key: "data.corpus.files", file: path, cause: error },
    );
  }
}

async function kindOf(path: string): Promise<"file" | "folder" | null> {
  try {
    return (await stat(path)).isDirectory() ? "folder" : "file";
  } catch {
    return null;
  }
}

async function missing(selection: FileSelection, given: string, path: string): Promise<UsageError> {
  const neighbours = await readdir(dirname(path)).catch(() => []);
  return new UsageError(
    "ESPALIER_CORPUS_MISSING",
    `the corpus "${selection.corpus}" names "${given}", which does not exist`,
    {
      key: "data.corpus.files",
      file: path,
      hint:
        neighbours.length > 0
          ? `in ${dirname(path)}: ${suggest(basename(path), neighbours)}`
          : `relative paths start from ${selection.baseDirectory}`,
    },
  );
}

/** Patterns are written with slashes everywhere. */
function forGlob(pattern: string): string {
  return process.platform === "win32" && isAbsolute(join(pattern)) ? pattern.replaceAll("\\", "/") : pattern;
}

function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
