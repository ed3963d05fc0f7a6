import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readlink, rename, rm, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { compileShared } from "../compiler.js";
import { addonFolder } from "../folders.js";
import type { TensorFlowWheel } from "./wheel.js";

const PACKAGE = "@tensorflow/tfjs-node-gpu";
const require = createRequire(import.meta.url);

/** The folder of the npm package whose addon this is; null where it is not installed (it is an optional dependency). */
export function packageFolder(): string | null {
  try {
    return path.dirname(require.resolve(`${PACKAGE}/package.json`));
  } catch {
    return null;
  }
}

/** Version of the npm package. */
export function packageVersion(folder: string): string {
  const manifest = require(path.join(folder, "package.json")) as { version: string };
  return manifest.version;
}

/** Where the compiled addon for this wheel is kept. The wheel's place is part of the name, because it is linked in. */
export function addonFile(wheel: TensorFlowWheel, folder: string): string {
  const built = [
    wheel.folder,
    wheel.version,
    packageVersion(folder),
    process.platform,
    process.arch,
    ...wheel.cudaLibraries,
  ];
  const key = createHash("sha256").update(built.join("\0")).digest("hex").slice(0, 12);
  return path.join(addonFolder(), `tensorflow-${wheel.version}-${key}.node`);
}

/**
 * Compiles the package's own sources against the wheel.
 *
 * @throws MissingPiece where there is no compiler or it fails
 */
export async function compileAddon(wheel: TensorFlowWheel, folder: string): Promise<void> {
  const headers = path.join(path.dirname(require.resolve("node-api-headers/package.json")), "include");
  // The old tag (DT_RPATH) also counts for what TensorFlow itself opens later: the GPU libraries.
  const tags = process.platform === "linux" ? ["-Wl,--disable-new-dtags"] : ["-undefined", "dynamic_lookup"];
  await compileShared(
    [
      "-O2",
      "-std=c++17",
      "-fPIC",
      "-shared",
      "-w",
      "-DNAPI_VERSION=8",
      `-I${path.join(wheel.folder, "include")}`,
      `-I${headers}`,
      `-I${folder}`,
      path.join(folder, "binding", "tfjs_backend.cc"),
      path.join(folder, "binding", "tfjs_binding.cc"),
      ...wheel.libraries,
      ...tags,
      ...[wheel.folder, ...wheel.cudaLibraries].map((library) => `-Wl,-rpath,${library}`),
    ],
    addonFile(wheel, folder),
  );
}

/** Puts the addon where the package looks for it: a link, so that the cached file survives a fresh `npm ci`. */
export async function linkAddon(wheel: TensorFlowWheel, folder: string): Promise<void> {
  const target = addonFile(wheel, folder);
  const link = path.join(folder, "lib", "napi-v8", "tfjs_binding.node");
  if (existsSync(link) && (await readlink(link).catch(() => null)) === target) return;
  await mkdir(path.dirname(link), { recursive: true });
  const unfinished = `${link}.${process.pid}.tmp`;
  await rm(unfinished, { force: true });
  await symlink(target, unfinished);
  await rename(unfinished, link);
}
