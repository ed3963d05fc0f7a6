import { existsSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { EspalierError } from "@espalier/core";
import { lastLines, runCommand } from "../command.js";
import { type Dawn, type GpuAdapter, webgpuFolder } from "./dawn.js";
import { driverIdentity, softwareDriver } from "./vulkan.js";

/** The adapter that WebGPU gives here. */
export interface Adapter {
  /** `SwiftShader driver 5.0.0` */
  readonly description: string;
  /** Whether it computes on the processor. */
  readonly isSoftware: boolean;
  /** The driver's file that has to be named in `VK_DRIVER_FILES`; null where the loader finds it by itself. */
  readonly driverFile: string | null;
}

/** From `src` and from `dist` alike: a child process runs what was compiled. */
const PROGRAM = fileURLToPath(new URL("../../dist/webgpu/adapter-process.js", import.meta.url));

/**
 * The adapter that WebGPU gives on this machine, or null where it gives none: a real GPU where there is one, else a
 * software driver. Asked in a process of its own, for a broken driver may end that; the answer is kept until Dawn, Node
 * or the drivers change.
 *
 * @throws EspalierError where this package is not compiled
 */
export async function findAdapter(dawn: Dawn): Promise<Adapter | null> {
  const identity = JSON.stringify([dawn, process.versions.node, await driverIdentity()]);
  const kept = await readKept(identity);
  if (kept !== undefined) return kept;
  const adapter = (await ask(dawn, null)) ?? (await askForSoftware(dawn));
  await keep(identity, adapter);
  return adapter;
}

async function askForSoftware(dawn: Dawn): Promise<Adapter | null> {
  const driverFile = softwareDriver();
  return driverFile === null ? null : ask(dawn, driverFile);
}

async function ask(dawn: Dawn, driverFile: string | null): Promise<Adapter | null> {
  if (!existsSync(PROGRAM)) {
    throw new EspalierError("ESPALIER_BACKENDS_NOT_BUILT", `${PROGRAM} is missing`, { hint: "npx tsc -b" });
  }
  const env = driverFile === null ? process.env : { ...process.env, VK_DRIVER_FILES: driverFile };
  const { code, stdout } = await runCommand(process.execPath, [PROGRAM, dawn.entry], {
    env,
    timeout: 60_000,
  });
  if (code !== 0) return null;
  const found = JSON.parse(lastLines(stdout, 1)) as Omit<Adapter, "driverFile"> | null;
  return found === null ? null : { ...found, driverFile };
}

/** What is told of an adapter. */
export function describeAdapter({ info }: GpuAdapter): Omit<Adapter, "driverFile"> {
  const { vendor, architecture, description, isFallbackAdapter } = info;
  const names = [description, [vendor, architecture].filter((name) => name !== "").join(" ")];
  return {
    description: names.find((name) => name !== "") ?? "an adapter without a name",
    isSoftware:
      isFallbackAdapter === true ||
      /swiftshader|llvmpipe|basic render/i.test(`${architecture} ${description}`),
  };
}

function record(): string {
  return path.join(webgpuFolder(), "adapter.json");
}

async function readKept(identity: string): Promise<Adapter | null | undefined> {
  try {
    const kept = JSON.parse(await readFile(record(), "utf8")) as {
      identity: string;
      adapter: Adapter | null;
    };
    return kept.identity === identity ? kept.adapter : undefined;
  } catch {
    return undefined;
  }
}

/** Where the folder cannot be written, the question is asked anew each time. */
async function keep(identity: string, adapter: Adapter | null): Promise<void> {
  const unfinished = `${record()}.${process.pid}.tmp`;
  try {
    await mkdir(path.dirname(record()), { recursive: true });
    await writeFile(unfinished, JSON.stringify({ identity, adapter }));
    await rename(unfinished, record());
  } catch {
    // nothing is lost but a second next time
  }
}
