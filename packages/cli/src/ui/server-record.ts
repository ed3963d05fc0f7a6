import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { projectFolder, runCommand } from "@espalier/backends";
import { writeTextDurably } from "@espalier/checkpoints";
import { EspalierError } from "@espalier/core";
import { z } from "zod";

/** What is known of the server over a store: of the one that runs, or of the last that did. */
const schema = z.object({
  /** The server's process, which leads its process group. */
  pid: z.number().int().positive(),
  /** The `espalier ui` that started it. */
  owner: z.number().int().positive(),
  port: z.number().int().positive(),
});

export type ServerRecord = z.infer<typeof schema>;

const file = "server.json";

/**
 * The folder that a server's database and artifacts are kept in. Each version has its own: a database that a newer MLflow
 * has upgraded is refused by an older one. Whatever is lost there is brought again from the run folders.
 *
 * @throws EspalierError where it cannot be made
 */
export async function storeFolder(version: string): Promise<string> {
  const folder = join(projectFolder(), ".espalier", `mlflow-${version}`);
  await mkdir(folder, { recursive: true }).catch((cause: unknown) => {
    throw new EspalierError("ESPALIER_MLFLOW_STORE", `cannot make ${folder}: ${String(cause)}`, {
      file: folder,
      cause,
      hint: "make the folder writable, or set ESPALIER_HOME to another one",
    });
  });
  return folder;
}

/** The record of a store; `null` where no server was ever started. */
export async function readRecord(store: string): Promise<ServerRecord | null> {
  try {
    return schema.parse(JSON.parse(await readFile(join(store, file), "utf8")));
  } catch {
    return null;
  }
}

/** Notes the server down. */
export async function writeRecord(store: string, record: ServerRecord): Promise<void> {
  await writeTextDurably(join(store, file), `${JSON.stringify(record)}\n`);
}

/** Whether the recorded process is still a server over this store, and not another program that got its number. */
export async function isServing(store: string, { pid }: ServerRecord): Promise<boolean> {
  return (await commandLineOf(pid)).includes(store);
}

/** Empty where there is no such process. */
async function commandLineOf(pid: number): Promise<string> {
  // Small containers have no ps.
  if (process.platform === "linux") return readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  const { code, stdout } = await runCommand("ps", ["-o", "args=", "-p", String(pid)], { timeout: 10_000 });
  return code === 0 ? stdout : "";
}

/** Whether a process is there. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
