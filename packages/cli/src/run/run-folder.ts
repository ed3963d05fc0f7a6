import { constants } from "node:fs";
import { access, readdir, readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { writeFolderDurably, writeTextDurably } from "@espalier/checkpoints";
import { EspalierError, type JsonObject, UsageError } from "@espalier/core";
import { type Definition, type Lock, refuseChangedDefinition } from "@espalier/experiments";

/** What a run's folder holds at the moment. */
export type RunFolder =
  | { readonly state: "new"; readonly path: string }
  /** There from before, and to be continued. */
  | { readonly state: "started"; readonly path: string; readonly lock: Lock };

/** The folder that a run is given, or the one that it gets without. */
export function runFolderOf(definition: Definition, given: string | undefined): string {
  return given ?? join("runs", `${definition.name}-s${definition.seed}`);
}

/**
 * Looks at the folder of a run before anything is computed.
 *
 * @param definition the resolved definition, which a run that is continued must have been started with
 * @throws UsageError where a run is there and is not to be resumed, where it is no run, or was started with another
 * definition; EspalierError where the folder cannot be written
 */
export async function examineRunFolder(
  path: string,
  resume: boolean,
  definition: JsonObject,
): Promise<RunFolder> {
  const names = await readdir(path).catch((cause: NodeJS.ErrnoException): string[] => {
    if (cause.code === "ENOENT") return [];
    throw new UsageError("ESPALIER_RUN_FOLDER", `"${path}" cannot be a run's folder: ${reason(cause)}`, {
      file: path,
      hint: "give another --out",
      cause,
    });
  });
  await refuseUnwritable(path);
  if (names.length === 0) return { state: "new", path };
  if (!resume)
    throw new UsageError("ESPALIER_RUN_EXISTS", `the folder "${path}" is there already`, {
      file: path,
      hint: names.includes("lock.json")
        ? "--resume continues that run; --out DIR starts another one"
        : "give another --out",
    });
  const lock = await readLock(path);
  refuseChangedDefinition(lock, definition, join(path, "lock.json"));
  return { state: "started", path, lock };
}

/** Reads a run's lock. */
export async function readLock(path: string): Promise<Lock> {
  const file = join(path, "lock.json");
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new UsageError("ESPALIER_RUN_INVALID", `"${path}" is no run folder: it has no lock.json`, {
      file,
      cause,
    });
  });
  try {
    const lock: unknown = JSON.parse(text);
    if (
      isObject(lock) &&
      lock.lockVersion === 1 &&
      partsOfLock.every((part) => isObject(lock[part])) &&
      isSourceSound(lock.source)
    )
      // Written by this program, version 1; a file that was edited by hand shows itself where its keys are compared.
      return lock as unknown as Lock;
  } catch {
    // told below
  }
  throw new EspalierError("ESPALIER_RUN_INVALID", "the lock is damaged, or of another version", { file });
}

const partsOfLock = ["definition", "data", "code", "backend", "machine"] as const satisfies (keyof Lock)[];

// It is worked with before anything is compared.
function isSourceSound(source: unknown): boolean {
  if (source === undefined) return true;
  return isObject(source) && typeof source.fingerprint === "string" && isObject(source.config);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

/** Makes a run's folder with definition and lock, all at once. */
export async function writeRunFolder(path: string, definition: string, lock: Lock): Promise<void> {
  await writeFolderDurably(path, "lock.json", "refuse", async (folder) => {
    await writeTextDurably(join(folder, "definition.yaml"), definition);
    await writeTextDurably(join(folder, "lock.json"), `${JSON.stringify(lock, null, 2)}\n`);
  });
}

async function refuseUnwritable(path: string): Promise<void> {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    try {
      await access(folder, constants.W_OK | constants.X_OK);
      return;
    } catch (error) {
      const cause = error as NodeJS.ErrnoException;
      if (cause.code === "ENOENT" && dirname(folder) !== folder) continue;
      throw new EspalierError("ESPALIER_NO_PERMISSION", `cannot write to "${folder}": ${reason(cause)}`, {
        file: resolve(path),
        hint: "give an --out that can be written, or change the folder's permissions",
        cause,
      });
    }
  }
}

function reason(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "EACCES":
    case "EPERM":
      return "no permission";
    case "EROFS":
      return "the file system is read-only";
    case "ENOTDIR":
      return "a file stands where a folder is needed";
    default:
      return error.message;
  }
}
