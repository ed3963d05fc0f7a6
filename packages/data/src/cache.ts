import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { EspalierError, type Json } from "@espalier/core";

/** The folder that prepared data is kept in: `ESPALIER_CACHE`, else `.espalier/data` under the working folder. */
export function defaultCacheDir(
  environment: NodeJS.ProcessEnv = process.env,
  folder = process.cwd(),
): string {
  return environment.ESPALIER_CACHE ? resolve(environment.ESPALIER_CACHE) : join(folder, ".espalier", "data");
}

/** SHA-256 of a value's JSON, hexadecimal. */
export function hashOf(value: Json): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}

/** A name beside `path` that no other process uses. */
export function temporaryName(path: string): string {
  return `${path}.${process.pid}-${randomUUID().slice(0, 8)}.tmp`;
}

/** Makes the folder of a file in the cache. */
export async function makeFolderOf(path: string): Promise<void> {
  await guardWrite(path, () => mkdir(dirname(path), { recursive: true }));
}

/** Writes a whole file so that another process sees all of it or nothing. */
export async function writeAtomically(path: string, content: string): Promise<void> {
  await makeFolderOf(path);
  const temporary = temporaryName(path);
  await guardWrite(path, async () => {
    try {
      const file = await open(temporary, "wx");
      try {
        await file.writeFile(content);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
  });
}

const reasons: { readonly [code: string]: string } = {
  EACCES: "no write permission",
  EPERM: "no write permission",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  ENOTDIR: "a file stands where a folder is needed",
  EEXIST: "a file stands where a folder is needed",
};

/**
 * Runs a write into the cache.
 *
 * @throws EspalierError ESPALIER_CACHE_UNWRITABLE for what a user can mend (permission, space)
 */
export async function guardWrite<T>(path: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (error) {
    const code = errorCode(error);
    const reason = code === undefined ? undefined : reasons[code];
    if (reason === undefined) throw error;
    throw new EspalierError("ESPALIER_CACHE_UNWRITABLE", `cannot write prepared data: ${reason}`, {
      file: path,
      hint: "set ESPALIER_CACHE to a folder that can be written",
      cause: error,
    });
  }
}

/** The `code` of a system error. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
