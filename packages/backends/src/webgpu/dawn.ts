import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { projectFolder } from "../folders.js";

/** The release that set-up installs. */
export const DAWN_VERSION = "0.6.2";

/** An installed npm package `webgpu`: Dawn, Chromium's WebGPU, for Node. */
export interface Dawn {
  readonly version: string;
  /** Its main module. */
  readonly entry: string;
}

/** What of a WebGPU adapter is looked at (the standard's names). */
export interface GpuAdapter {
  readonly info: {
    readonly vendor: string;
    readonly architecture: string;
    readonly description: string;
    readonly isFallbackAdapter?: boolean;
  };
}

/** WebGPU's entry, as a browser has it at `navigator.gpu`. */
export interface Gpu {
  requestAdapter(options: { readonly powerPreference: "high-performance" }): Promise<GpuAdapter | null>;
}

interface DawnModule {
  create(options: readonly string[]): Gpu;
  /** The standard's global names: `GPUBufferUsage`, `GPUMapMode`, … */
  readonly globals: Readonly<Record<string, unknown>>;
}

/** The folder in which set-up installs packages for this backend. */
export function webgpuFolder(): string {
  return path.join(projectFolder(), ".espalier", "webgpu");
}

/** The package that set-up installed, else one that the project has by itself; null where there is none. */
export function findDawn(): Dawn | null {
  for (const above of [webgpuFolder(), projectFolder()]) {
    const folder = path.join(above, "node_modules", "webgpu");
    const binary = dawnBinary(folder);
    if (!existsSync(binary)) continue;
    const manifest: unknown = JSON.parse(readFileSync(path.join(folder, "package.json"), "utf8"));
    if (typeof manifest !== "object" || manifest === null || !("version" in manifest)) continue;
    return { version: String(manifest.version), entry: path.join(folder, "index.js") };
  }
  return null;
}

/** The package's binary for this machine; it carries one for every platform. */
function dawnBinary(folder: string): string {
  return path.join(folder, "dist", binaryFolder(), "dawn.node");
}

/** The name of the folder of binaries for this machine. */
export function binaryFolder(): string {
  return process.platform === "darwin" ? "darwin-universal" : `${process.platform}-${process.arch}`;
}

/** Loads Dawn into this process and makes the standard's global names known, as TensorFlow.js expects them. */
export async function startDawn(entry: string): Promise<Gpu> {
  const { create, globals } = (await import(pathToFileURL(entry).href)) as DawnModule;
  Object.assign(globalThis, globals);
  return create([]);
}
