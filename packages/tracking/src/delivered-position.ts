import { randomUUID } from "node:crypto";
import { open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type JournalPosition, startOfJournal } from "./journal-file.js";

/** How far a run's journal has reached one server. */
export interface Delivered {
  readonly experimentId: string;
  /** MLflow's id of the run. */
  readonly runId: string;
  readonly metrics: JournalPosition;
  readonly events: JournalPosition;
  readonly system: JournalPosition;
  /** Files that are artifacts already: size and time of change, by their names in MLflow. */
  readonly artifacts: Readonly<Record<string, string>>;
}

/** The position of a server that has nothing yet. */
export const nothingDelivered: Omit<Delivered, "experimentId" | "runId"> = {
  metrics: startOfJournal,
  events: startOfJournal,
  system: startOfJournal,
  artifacts: {},
};

const file = "mlflow.json";
const position = z.object({ byte: z.number().int().nonnegative(), line: z.number().int().nonnegative() });
const schema = z.object({
  version: z.literal(1),
  servers: z.record(
    z.string(),
    z.object({
      experimentId: z.string(),
      runId: z.string(),
      metrics: position,
      events: position,
      system: position.default(startOfJournal),
      artifacts: z.record(z.string(), z.string()).default({}),
    }),
  ),
});

/**
 * Reads how far the journal in `folder` has reached the server at `address`. A file that is missing or damaged says
 * nothing: then all is sent again, which doubles nothing.
 */
export async function readDelivered(folder: string, address: string): Promise<Delivered | undefined> {
  const delivered = (await readAll(folder))[address];
  if (delivered === undefined) return undefined;
  const checked = async (file: string, at: JournalPosition): Promise<JournalPosition> =>
    (await isBehindLine(join(folder, file), at)) ? at : startOfJournal;
  return {
    ...delivered,
    metrics: await checked("metrics.jsonl", delivered.metrics),
    events: await checked("events.jsonl", delivered.events),
    system: await checked("system.jsonl", delivered.system),
  };
}

/** Notes it down, atomically; other servers' entries stay. */
export async function writeDelivered(folder: string, address: string, delivered: Delivered): Promise<void> {
  const servers = { ...(await readAll(folder)), [address]: delivered };
  const temporary = join(folder, `${file}.${randomUUID()}.tmp`);
  try {
    const handle = await open(temporary, "wx");
    try {
      await handle.writeFile(`${JSON.stringify({ version: 1, servers }, undefined, 2)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, join(folder, file));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function readAll(folder: string): Promise<Record<string, Delivered>> {
  try {
    return schema.parse(JSON.parse(await readFile(join(folder, file), "utf8"))).servers;
  } catch {
    return {};
  }
}

/** A journal that lost lines in a power failure, or was replaced, has something else there. */
async function isBehindLine(path: string, { byte }: JournalPosition): Promise<boolean> {
  if (byte === 0) return true;
  try {
    const handle = await open(path, "r");
    try {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(1), 0, 1, byte - 1);
      return bytesRead === 1 && buffer[0] === 0x0a;
    } finally {
      await handle.close();
    }
  } catch {
    return false;
  }
}
