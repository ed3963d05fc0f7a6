import { type FileHandle, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { UsageError } from "@espalier/core";
import { systemCode, writeFailure } from "./file-failures.js";

// Enough that the disk works in long runs, few enough that it begins early in a file of some hundred MiB.
const writeBackBytes = 2 ** 25;

/**
 * Writes a file so that after a crash at any moment either the old or the complete new one is there: under a temporary
 * name in the same folder, fsync, rename, fsync of the folder.
 *
 * @throws EspalierError ESPALIER_DISK_FULL, ESPALIER_NO_PERMISSION, … ; nothing is left behind then
 */
export async function writeDurably(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.partial`);
  try {
    const file = await open(temporary, "w");
    try {
      await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw writeFailure(path, error);
  }
}

/** {@link writeDurably} for a whole text. */
export async function writeTextDurably(path: string, text: string): Promise<void> {
  await writeDurably(path, (file) => writeFully(file, Buffer.from(text, "utf8")));
}

/** Writes all bytes; a single write may take fewer. */
export async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, written, Math.min(bytes.byteLength - written, 2 ** 30));
    written += bytesWritten;
  }
}

/**
 * Writes a large file in pieces while the disk already takes what was written before, so that the fsync at the end has
 * little left to do. Not the durability itself: that is {@link writeDurably}'s.
 */
export class EarlyWriteBack {
  private unsynced = 0;
  private syncing: Promise<void> | null = null;
  private failure: unknown = null;

  constructor(private readonly file: FileHandle) {}

  /** @throws what an earlier write to the disk failed with: the system tells it only once */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.failure !== null) throw this.failure;
    await writeFully(this.file, bytes);
    this.unsynced += bytes.byteLength;
    if (this.unsynced < writeBackBytes || this.syncing !== null) return;
    this.unsynced = 0;
    this.syncing = this.file.datasync().then(
      () => {
        this.syncing = null;
      },
      (error) => {
        this.syncing = null;
        this.failure = error;
      },
    );
  }

  /** Waits for what is under way. Call it before the file is closed. */
  async end(): Promise<void> {
    await this.syncing;
    if (this.failure !== null) throw this.failure;
  }
}

/** Makes a folder's entries durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Fills a folder under a temporary name beside `path` and renames it when it is complete, so that a folder with the
 * final name is never half-written.
 *
 * @param existing what to do about a folder that is there already and has something in it
 * @throws UsageError ESPALIER_FOLDER_EXISTS if it is there and is to be refused
 * @throws EspalierError like {@link writeDurably}; nothing is left behind then
 */
export async function writeFolderDurably(
  path: string,
  existing: "refuse" | "replace",
  fill: (folder: string) => Promise<void>,
): Promise<void> {
  const parent = dirname(path);
  const temporary = join(parent, `.${basename(path)}.${process.pid}.partial`);
  const replaced = join(parent, `.${basename(path)}.${process.pid}.replaced`);
  if (existing === "refuse") await refuseExisting(path);
  try {
    await mkdir(parent, { recursive: true });
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary);
    await fill(temporary);
    await syncFolder(temporary);
    if (existing === "replace") await moveAway(path, replaced);
    await rename(temporary, path);
    await syncFolder(parent);
    await rm(replaced, { recursive: true, force: true });
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw writeFailure(path, error);
  }
}

async function moveAway(path: string, to: string): Promise<void> {
  await rename(path, to).catch((error) => {
    if (systemCode(error) !== "ENOENT") throw error;
  });
}

// An empty folder is as good as none: renaming a folder over it replaces it.
async function refuseExisting(path: string): Promise<void> {
  const entries = await readdir(path).catch((error) => {
    if (systemCode(error) === "ENOENT") return [];
    throw writeFailure(path, error);
  });
  if (entries.length > 0)
    throw new UsageError("ESPALIER_FOLDER_EXISTS", `${path} exists and is not empty`, {
      file: path,
      hint: "choose another folder, or remove that one",
    });
}

/** Whether a name is that of something {@link writeFolderDurably} or {@link writeDurably} did not finish. */
export function isUnfinished(name: string): boolean {
  return /^\..+\.\d+\.(partial|replaced)$/.test(name);
}
