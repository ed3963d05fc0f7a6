import { open } from "node:fs/promises";
import { EspalierError } from "@espalier/core";
import type { z } from "zod";

/** Where a reader stands in a journal file: just behind a complete line. */
export interface JournalPosition {
  readonly byte: number;
  /** Lines before `byte`. */
  readonly line: number;
}

export const startOfJournal: JournalPosition = { byte: 0, line: 0 };

/** What {@link readJournal} found. */
export interface JournalPart<Entry> {
  readonly entries: readonly Entry[];
  /** The same number of positions: behind each entry's line. */
  readonly positions: readonly JournalPosition[];
  /** Behind the last complete line. */
  readonly end: JournalPosition;
  /** Bytes behind `end`: a line that is torn, or that another process is just writing. */
  readonly torn: number;
}

const newline = 0x0a;

/**
 * Reads complete lines from `from` on. A last line that is not complete JSON is left out, because a killed process
 * leaves one and a living one may be in the middle of it; a complete last line counts even without its line end.
 *
 * @param maxBytes stop behind the line that reaches this size; for readers that go on later
 * @throws EspalierError ESPALIER_JOURNAL_READ if the file cannot be read, ESPALIER_JOURNAL_INVALID (with file and
 * line) if a line is not what the schema says
 */
export async function readJournal<Entry>(
  file: string,
  schema: z.ZodType<Entry>,
  from: JournalPosition = startOfJournal,
  maxBytes = Number.POSITIVE_INFINITY,
): Promise<JournalPart<Entry>> {
  const { bytes, isWhole } = await readBytes(file, from.byte, maxBytes);
  const entries: Entry[] = [];
  const positions: JournalPosition[] = [];
  let start = 0;
  let line = from.line;
  const accept = (end: number, behind: number, mayBeTorn: boolean): boolean => {
    const text = bytes.toString("utf8", start, end);
    if (text.trim() !== "") {
      const value = parseJson(text);
      if (value === undefined) {
        if (mayBeTorn) return false;
        throw invalid(file, line + 1, `not a line of JSON: ${text.slice(0, 80)}`);
      }
      entries.push(checkEntry(file, line + 1, schema, value.json));
      positions.push({ byte: from.byte + behind, line: line + 1 });
    }
    start = behind;
    line++;
    return true;
  };
  for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, start)) {
    // A power failure can leave a last line that has its end but not its middle.
    if (!accept(end, end + 1, isWhole && end + 1 === bytes.length)) break;
  }
  if (isWhole && start < bytes.length && bytes.indexOf(newline, start) === -1)
    accept(bytes.length, bytes.length, true);
  return {
    entries,
    positions,
    end: { byte: from.byte + start, line },
    torn: bytes.length - start,
  };
}

async function readBytes(
  file: string,
  from: number,
  maxBytes: number,
): Promise<{ bytes: Buffer; isWhole: boolean }> {
  try {
    const handle = await open(file, "r");
    try {
      const { size } = await handle.stat();
      let length = Math.max(0, Math.min(size - from, maxBytes));
      let bytes = await readExactly(handle, from, length);
      // A line longer than maxBytes: read on until it ends.
      while (from + length < size && !bytes.includes(newline)) {
        length = Math.min(size - from, length * 2);
        bytes = await readExactly(handle, from, length);
      }
      return { bytes, isWhole: from + length >= size };
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw new EspalierError("ESPALIER_JOURNAL_READ", `cannot read the journal ${file}: ${reason(error)}`, {
      file,
      cause: error,
      hint: "a run folder has metrics.jsonl and events.jsonl; is this one?",
    });
  }
}

async function readExactly(
  handle: {
    read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
  },
  from: number,
  length: number,
): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, length - done, from + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}

function parseJson(text: string): { json: unknown } | undefined {
  try {
    return { json: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

function checkEntry<Entry>(file: string, line: number, schema: z.ZodType<Entry>, value: unknown): Entry {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problem = parsed.error.issues
    .map((issue) => (issue.path.length === 0 ? issue.message : `${issue.path.join(".")}: ${issue.message}`))
    .join("; ");
  throw invalid(file, line, problem);
}

function invalid(file: string, line: number, problem: string): EspalierError {
  return new EspalierError("ESPALIER_JOURNAL_INVALID", `${file}:${line}: ${problem}`, {
    file,
    hint: "the journal is only ever appended to; was this line edited, or written by another version?",
  });
}

/** The short reason of a file system error. */
export function reason(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const known: Record<string, string> = {
    ENOSPC: "no space left on the disk",
    EDQUOT: "the disk quota is used up",
    EACCES: "permission denied",
    EPERM: "permission denied",
    EROFS: "the file system is read-only",
    ENOENT: "it does not exist",
    ENOTDIR: "part of the path is not a folder",
    EISDIR: "it is a folder",
    EIO: "the disk reports an input/output error",
  };
  return known[code] ?? (error instanceof Error ? error.message : String(error));
}
