import os from "node:os";
import { findProgram, runCommand } from "./command.js";
import { missingNodeFunctions } from "./node-compatibility.js";

/** An NVIDIA GPU as its driver describes it. */
export interface Gpu {
  /** Index in `cuda:<index>`. */
  readonly index: number;
  readonly name: string;
  /** MiB */
  readonly memory: number;
  readonly driver: string;
  /** NVIDIA's number of the chip's generation, 9 for Hopper; null where an old driver does not tell. */
  readonly computeCapability: number | null;
}

/** The facts about a machine that explain a backend's choice and speed. */
export interface MachineFacts {
  readonly platform: string;
  readonly node: string;
  /** What this version of Node removed and is put back for TensorFlow's package; empty on Node 20 and 22. */
  readonly nodePolyfills: readonly string[];
  readonly cpu: string;
  /** Cores that this process may use. */
  readonly cores: number;
  /** Bytes */
  readonly memory: number;
  /** Bytes */
  readonly freeMemory: number;
  readonly gpus: readonly Gpu[];
}

/** The machine that this process runs on. */
export async function machineFacts(): Promise<MachineFacts> {
  return {
    platform: `${process.platform}-${process.arch}`,
    node: process.versions.node,
    nodePolyfills: missingNodeFunctions(),
    cpu: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: os.availableParallelism(),
    memory: os.totalmem(),
    freeMemory: os.freemem(),
    gpus: await findGpus(),
  };
}

let gpus: Promise<readonly Gpu[]> | undefined;

/** The NVIDIA GPUs that the driver lists; none where there is no driver. Asked once per process. */
export function findGpus(): Promise<readonly Gpu[]> {
  gpus ??= askDriver();
  return gpus;
}

async function askDriver(): Promise<readonly Gpu[]> {
  const program = findProgram("nvidia-smi");
  if (program === null) return [];
  const ask = (columns: string) =>
    runCommand(program, [`--query-gpu=${columns}`, "--format=csv,noheader,nounits"], { timeout: 10_000 });
  const columns = "index,name,memory.total,driver_version";
  const answer = await ask(`${columns},compute_cap`);
  if (answer.code === 0) return parseGpus(answer.stdout);
  // Drivers before 510 do not know the last column.
  const older = await ask(columns);
  return older.code === 0 ? parseGpus(older.stdout) : [];
}

/** Reads the driver's table: `index, name, MiB, driver, compute capability` in each line. */
export function parseGpus(table: string): Gpu[] {
  const found: Gpu[] = [];
  for (const line of table.split(/\r?\n/)) {
    const [index, name, memory, driver, generation] = line.split(",").map((cell) => cell.trim());
    if (driver === undefined || !/^\d+$/.test(index!)) continue;
    const computeCapability = /^\d+\.\d+$/.test(generation ?? "") ? Number(generation) : null;
    found.push({ index: Number(index), name: name!, memory: Number(memory), driver, computeCapability });
  }
  return found;
}
