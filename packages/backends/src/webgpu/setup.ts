import { existsSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import path from "node:path";
import type { Log } from "../backend.js";
import { findProgram, lastLines, runCommand } from "../command.js";
import { installCommand, MissingPiece } from "../missing-piece.js";
import { findAdapter } from "./adapter.js";
import { binaryFolder, DAWN_VERSION, type Dawn, findDawn, webgpuFolder } from "./dawn.js";
import { hasVulkanLoader, usesVulkan } from "./vulkan.js";

/** Machines for which the package has a binary. */
const PLATFORMS = ["darwin-universal", "linux-arm64", "linux-x64", "win32-arm64", "win32-x64"];

/**
 * Installs Dawn, where it is not there, and asks it for an adapter.
 *
 * @throws MissingPiece where there is no binary for this machine, no driver, or the package cannot be installed
 */
export async function setupWebGpu(log: Log): Promise<void> {
  if (!PLATFORMS.includes(binaryFolder())) {
    throw new MissingPiece(
      "ESPALIER_BACKENDS_PLATFORM",
      `Dawn has no binary for ${process.platform}-${process.arch}`,
      { hint: "use --backend libtorch or --backend wasm" },
    );
  }
  if (usesVulkan && !hasVulkanLoader()) throw missingVulkan("there is no Vulkan (libvulkan.so.1)");
  const dawn = findDawn() ?? (await installDawn(log));
  if ((await findAdapter(dawn)) === null) throw missingVulkan("no graphics driver gives an adapter");
}

/** No way to a GPU, nor to a software driver. */
function missingVulkan(what: string): MissingPiece {
  return new MissingPiece("ESPALIER_BACKENDS_NO_VULKAN", `${what}, which WebGPU needs`, {
    hint: adapterFix(),
  });
}

/** What to do where no adapter is found. */
export function adapterFix(): string {
  if (!usesVulkan) return "update the graphics driver";
  return `${installCommand("vulkan")} (Vulkan in software), or the Vulkan driver of your GPU`;
}

async function installDawn(log: Log): Promise<Dawn> {
  const npm = npmProgram();
  if (npm === null) throw failedInstall("npm is not to be found", "npm -v");
  const folder = webgpuFolder();
  await mkdir(folder, { recursive: true });
  const name = `webgpu@${DAWN_VERSION}`;
  log(`installing ${name}, Dawn for Node (51 MB to download, once)`);
  // its install script lifts macOS's quarantine, which npm's downloads are not put under
  const given = ["install", "--prefix", folder, "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
  const { code, stderr } = await runCommand(process.execPath, [npm, ...given, name], {
    cwd: folder,
    timeout: 600_000,
  });
  const dawn = findDawn();
  if (code !== 0 || dawn === null)
    throw failedInstall(lastLines(stderr, 3), `npm install --prefix ${folder} ${name}`);
  await removeOtherBinaries(path.dirname(dawn.entry));
  return dawn;
}

/** npm's own program, to be run by this Node: the one that started us, else that beside Node, else the one on PATH. */
function npmProgram(): string | null {
  const folder = path.dirname(process.execPath);
  const candidates = [
    process.env.npm_execpath ?? "",
    path.join(folder, "node_modules", "npm", "bin", "npm-cli.js"),
    path.join(folder, "..", "lib", "node_modules", "npm", "bin", "npm-cli.js"),
    // on PATH it is a link to a script, except on Windows
    process.platform === "win32" ? "" : (findProgram("npm") ?? ""),
  ];
  return candidates.find((file) => file !== "" && existsSync(file)) ?? null;
}

/** The package carries binaries for all platforms, 110 MB that this machine cannot load. */
async function removeOtherBinaries(folder: string): Promise<void> {
  for (const name of await readdir(path.join(folder, "dist")))
    if (name !== binaryFolder()) await rm(path.join(folder, "dist", name), { recursive: true, force: true });
}

function failedInstall(what: string, command: string): MissingPiece {
  return new MissingPiece("ESPALIER_BACKENDS_NPM", `the npm package webgpu cannot be installed: ${what}`, {
    hint: command,
  });
}
