import { mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EspalierError } from "@espalier/core";
import type { Log } from "./backend.js";
import { projectFolder } from "./folders.js";

/** An owner writes its number at once; a lock that is still empty after so many milliseconds has lost its owner. */
const EMPTY_LOCK_AGE = 5_000;

/**
 * Lets one process at a time install and compile: `npm start` beside `npm test` would otherwise run two pips in one
 * virtual environment. A lock whose owner is gone is taken over.
 *
 * @throws EspalierError where the project's folder cannot be written
 */
export async function withSetupLock<T>(log: Log, work: () => Promise<T>): Promise<T> {
  const lock = path.join(projectFolder(), ".espalier", "setup.lock");
  await mkdir(path.dirname(lock), { recursive: true }).catch((error: unknown) => refuse(lock, error));
  let hasSaid = false;
  while (!(await take(lock))) {
    const owner = await ownerOf(lock);
    if (owner === "gone") {
      await rm(lock, { force: true });
      continue;
    }
    if (!hasSaid) log(`another set-up is running (process ${owner}), waiting for it`);
    hasSaid = true;
    await sleep(500);
  }
  try {
    return await work();
  } finally {
    await rm(lock, { force: true });
  }
}

async function take(lock: string): Promise<boolean> {
  try {
    await writeFile(lock, `${process.pid}`, { flag: "wx" });
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    return refuse(lock, error);
  }
}

async function ownerOf(lock: string): Promise<number | "gone"> {
  try {
    const owner = Number(await readFile(lock, "utf8"));
    if (owner > 0) return isAlive(owner) ? owner : "gone";
    return Date.now() - (await stat(lock)).mtimeMs > EMPTY_LOCK_AGE ? "gone" : 0;
  } catch {
    return 0; // released in this moment
  }
}

function refuse(lock: string, cause: unknown): never {
  throw new EspalierError("ESPALIER_BACKENDS_READ_ONLY", `cannot write ${lock}: ${String(cause)}`, {
    cause,
    hint: "make the folder writable and see that the disk is not full, or set ESPALIER_HOME to another folder",
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
