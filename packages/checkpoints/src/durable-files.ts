import { type FileHandle, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { UsageError } from "@espalier/core";
import { systemCode, writeFailure } from "./file-failures.js";

/**
 * Writes a file so that after a crash at any moment either the old or the complete new one is there: under a temporary
 * name in the same folder, fsync, rename, fsync of the folder.
 *
 * @param write fills the file, which is given with its temporary path
 * @throws EspalierError ESPALIER_DISK_FULL, ESPALIER_NO_PERMISSION, … ; nothing is left behind then
 */
export async function writeDurably(
  path: string,
  write: (file: FileHandle, path: string) => Promise<void>,
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.partial`);
  try {
    const file = await open(temporary, "w");
    try {
      await write(file, temporary);
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
  await writeDurably(path, (file) => file.writeFile(text, "utf8"));
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
 * final name is never half-written. An empty folder that is there stays the one that it is (a mount point, the current
 * folder, what a link leads to): it gets the files one by one when all are complete, the decisive one last.
 *
 * @param decisive the file without which the folder counts for nothing
 * @param existing what to do about a folder that is there already and has something in it
 * @throws UsageError ESPALIER_FOLDER_EXISTS if it is there and is to be refused
 * @throws EspalierError like {@link writeDurably}; nothing is left behind then
 */
export async function writeFolderDurably(
  path: string,
  decisive: string,
  existing: "refuse" | "replace",
  fill: (folder: string) => Promise<void>,
): Promise<void> {
  if (existing === "refuse" && (await isEmptyFolder(path))) return fillEmptyFolder(path, decisive, fill);
  const parent = dirname(path);
  const temporary = join(parent, `.${basename(path)}.${process.pid}.partial`);
  const replaced = join(parent, `.${basename(path)}.${process.pid}.replaced`);
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

/** @throws UsageError ESPALIER_FOLDER_EXISTS if it has something in it */
async function isEmptyFolder(path: string): Promise<boolean> {
  const entries = await readdir(path).catch((error) => {
    if (systemCode(error) === "ENOENT") return null;
    throw writeFailure(path, error);
  });
  if (entries === null) return false;
  if (entries.length === 0) return true;
  throw new UsageError("ESPALIER_FOLDER_EXISTS", `${path} exists and is not empty: it has ${entries[0]}`, {
    file: path,
    hint: "choose another folder, or remove that one",
  });
}

async function fillEmptyFolder(
  path: string,
  decisive: string,
  fill: (folder: string) => Promise<void>,
): Promise<void> {
  const temporary = join(path, `.content.${process.pid}.partial`);
  try {
    await mkdir(temporary);
    await fill(temporary);
    const names = (await readdir(temporary)).filter((name) => name !== decisive);
    for (const name of [...names, decisive]) await rename(join(temporary, name), join(path, name));
    await rm(temporary, { recursive: true });
    await syncFolder(path);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw writeFailure(path, error);
  }
}

/** Whether a name is that of something {@link writeFolderDurably} or {@link writeDurably} did not finish. */
export function isUnfinished(name: string): boolean {
  return /^\..+\.\d+\.(partial|replaced)$/.test(name);
}
