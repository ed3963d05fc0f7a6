import { join } from "node:path";
import { EspalierError } from "@espalier/core";
import * as systeminformation from "systeminformation";
import { z } from "zod";
import { AppendFile } from "./append-file.js";
import { count, real, toJsonLine } from "./json-line.js";

/** Name of the file of system metrics in a run's folder: written by whoever delivers the run, not by the training. */
export const systemFile = "system.jsonl";

/** One measurement of the machine: a line of `system.jsonl`. */
export interface SystemSample {
  /** Measurements before this one in the file: MLflow's step. */
  readonly sample: number;
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** Under MLflow's own names, without `system/`. */
  readonly values: Readonly<Record<string, number>>;
}

export const systemSampleSchema: z.ZodType<SystemSample> = z.object({
  sample: count,
  time: count,
  values: z.record(z.string(), real),
});

const mebibyte = 1024 ** 2;
const megabyte = 1e6;

/** Network bytes count from the first measurement, as in MLflow's own monitor. */
interface Baseline {
  received: number;
  sent: number;
}

/**
 * Measures processor, memory, disk, network and GPUs now and then, and appends it to `system.jsonl`. Names and units are
 * those of MLflow's own system metrics.
 */
export class SystemMonitor {
  readonly #file: AppendFile;
  readonly #folder: string;
  readonly #baseline: { network: Baseline | null } = { network: null };
  #sample: number;
  #timer: NodeJS.Timeout | undefined;
  #measuring: Promise<void> = Promise.resolve();

  private constructor(folder: string, file: AppendFile, sample: number) {
    this.#folder = folder;
    this.#file = file;
    this.#sample = sample;
  }

  /**
   * Begins to measure.
   *
   * @param samples how many the file has already
   * @param everySeconds MLflow's own default is 10
   * @throws EspalierError ESPALIER_JOURNAL_WRITE
   */
  static start(folder: string, samples: number, everySeconds = 10): SystemMonitor {
    const monitor = new SystemMonitor(folder, new AppendFile(join(folder, systemFile)), samples);
    monitor.#timer = setInterval(() => void monitor.#measure(), everySeconds * 1000);
    void monitor.#measure();
    return monitor;
  }

  /** A last measurement, and the file is closed. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#measuring;
    await this.#measure();
    await this.#file.close();
  }

  #measure(): Promise<void> {
    this.#measuring = this.#measuring.then(async () => {
      const values = await measureSystem(this.#folder, this.#baseline);
      try {
        this.#file.append(toJsonLine({ sample: this.#sample, time: Date.now(), values }));
        this.#sample++;
      } catch (error) {
        // A full disk is the training's matter; these numbers can be missed.
        if (!(error instanceof EspalierError)) throw error;
      }
    });
    return this.#measuring;
  }
}

async function measureSystem(
  folder: string,
  baseline: { network: Baseline | null },
): Promise<Record<string, number>> {
  const [load, memory, disks, networks, graphics] = await Promise.all([
    orNull(systeminformation.currentLoad()),
    orNull(systeminformation.mem()),
    orNull(systeminformation.fsSize()),
    orNull(systeminformation.networkStats()),
    orNull(gpus()),
  ]);
  const values: Record<string, number> = {};
  if (load !== null) values.cpu_utilization_percentage = load.currentLoad;
  if (memory !== null) {
    const used = memory.total - memory.available;
    values.system_memory_usage_megabytes = used / megabyte;
    values.system_memory_usage_percentage = (100 * used) / memory.total;
  }
  const disk = disks === null ? undefined : diskOf(folder, disks);
  if (disk !== undefined) {
    values.disk_usage_megabytes = disk.used / megabyte;
    values.disk_usage_percentage = disk.use;
    values.disk_available_megabytes = disk.available / megabyte;
  }
  if (networks !== null && networks.length > 0) {
    const received = sum(networks.map(({ rx_bytes }) => rx_bytes));
    const sent = sum(networks.map(({ tx_bytes }) => tx_bytes));
    baseline.network ??= { received, sent };
    values.network_receive_megabytes = (received - baseline.network.received) / megabyte;
    values.network_transmit_megabytes = (sent - baseline.network.sent) / megabyte;
  }
  for (const [index, gpu] of (graphics ?? []).entries()) {
    const name = `gpu_${index}`;
    const { utilizationGpu, memoryUsed, memoryTotal, powerDraw, powerLimit } = gpu;
    if (utilizationGpu !== undefined) values[`${name}_utilization_percentage`] = utilizationGpu;
    if (memoryUsed !== undefined) {
      values[`${name}_memory_usage_megabytes`] = (memoryUsed * mebibyte) / megabyte;
      if (memoryTotal) values[`${name}_memory_usage_percentage`] = (100 * memoryUsed) / memoryTotal;
    }
    if (powerDraw !== undefined) {
      values[`${name}_power_usage_watts`] = powerDraw;
      if (powerLimit) values[`${name}_power_usage_percentage`] = (100 * powerDraw) / powerLimit;
    }
  }
  return Object.fromEntries(Object.entries(values).filter(([, value]) => Number.isFinite(value)));
}

/** Looking for graphics starts other programs: once is enough where there are none. */
let hasGpus: boolean | undefined;

async function gpus(): Promise<systeminformation.Systeminformation.GraphicsControllerData[]> {
  if (hasGpus === false) return [];
  const { controllers } = await systeminformation.graphics();
  const measured = controllers.filter(({ utilizationGpu }) => utilizationGpu !== undefined);
  hasGpus = measured.length > 0;
  return measured;
}

/** The file system that the folder is on: the longest mount point that begins its path. */
function diskOf(
  folder: string,
  disks: readonly systeminformation.Systeminformation.FsSizeData[],
): systeminformation.Systeminformation.FsSizeData | undefined {
  const holds = (mount: string): boolean =>
    mount === "/" || folder === mount || folder.startsWith(`${mount}/`);
  return disks.filter(({ mount }) => holds(mount)).sort((a, b) => b.mount.length - a.mount.length)[0];
}

async function orNull<Value>(value: Promise<Value>): Promise<Value | null> {
  return value.catch(() => null);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
