import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { projectFolder } from "../folders.js";
import { sitePackages } from "../python.js";

/** A TensorFlow wheel that set-up unpacked. */
export interface TensorFlowWheel {
  /** The folder `tensorflow` in site-packages. */
  readonly folder: string;
  readonly version: string;
  /** Whether the wheel computes on NVIDIA GPUs, and their libraries were installed with it. */
  readonly cuda: boolean;
  /** Folders with the GPU libraries. */
  readonly cudaLibraries: readonly string[];
  /** The two shared libraries that the addon links. */
  readonly libraries: readonly [string, string];
}

/**
 * Virtual environments that may hold the wheel, in order: the common one, and one of its own that set-up makes where the
 * common one's Python is newer than TensorFlow has builds for.
 */
export function wheelVenvs(): [common: string, own: string] {
  return [path.join(projectFolder(), ".venv"), path.join(projectFolder(), ".venv-tensorflow")];
}

const LIBRARIES: readonly [string, string] =
  process.platform === "darwin"
    ? ["libtensorflow_cc.2.dylib", "libtensorflow_framework.2.dylib"]
    : ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"];

/** The wheel in the first of {@link wheelVenvs} that has one, or null. */
export async function findWheel(): Promise<TensorFlowWheel | null> {
  for (const venv of wheelVenvs()) {
    const packages = await sitePackages(venv);
    const wheel = packages === null ? null : await wheelIn(packages);
    if (wheel !== null) return wheel;
  }
  return null;
}

/** The wheel in a `site-packages` folder, or null where there is none or it is incomplete. */
export async function wheelIn(packages: string): Promise<TensorFlowWheel | null> {
  const folder = path.join(packages, "tensorflow");
  const libraries = [path.join(folder, LIBRARIES[0]), path.join(folder, LIBRARIES[1])] as const;
  if (!libraries.every((library) => existsSync(library))) return null;
  const names = await readdir(packages);
  // pip writes the .dist-info folder last: without it the installation was broken off
  const info = names
    .map((name) => /^tensorflow(?:_cpu)?-(\d[^-]*)\.dist-info$/.exec(name))
    .find((match) => match !== null);
  if (info === undefined) return null;
  const cudaLibraries = info[0].startsWith("tensorflow_cpu")
    ? []
    : await cudaFolders(path.join(packages, "nvidia"));
  return { folder, version: info[1]!, cuda: cudaLibraries.length > 0, cudaLibraries, libraries };
}

async function cudaFolders(nvidia: string): Promise<string[]> {
  if (!existsSync(path.join(nvidia, "cudnn", "lib"))) return [];
  const packages = await readdir(nvidia);
  return packages.map((name) => path.join(nvidia, name, "lib")).filter((folder) => existsSync(folder));
}
