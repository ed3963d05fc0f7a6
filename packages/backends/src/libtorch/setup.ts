import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { AddonBuildError, buildAddon, findAddon, type Torch } from "@espalier/tfjs-backend-libtorch/parts";
import type { Log } from "../backend.js";
import { diskFull } from "../disk-space.js";
import { addonFolder } from "../folders.js";
import { findGpus } from "../machine.js";
import { MissingPiece, missingCompiler } from "../missing-piece.js";
import { ensureVenv, type PythonRange, pipInstall, sitePackages } from "../python.js";
import { locateTorch, ownVenv } from "./locate.js";

const VERSION = "2.11.0";
const PYTHON: PythonRange = { from: 10 };

/** What pip is asked for on one kind of machine. */
interface Wheel {
  readonly requirements: readonly string[];
  readonly withDependencies: boolean;
  /** Unpacked size in bytes, with room for what pip keeps while it unpacks. */
  readonly space: number;
  readonly download: string;
}

/** The Linux wheel links two small CUDA libraries even to compute on the CPU; a GPU needs all of them. */
async function chooseWheel(): Promise<Wheel> {
  const requirements = [`torch==${VERSION}`];
  if (process.platform !== "linux") {
    return { requirements, withDependencies: false, space: 1e9, download: "100 MB" };
  }
  if (process.arch !== "x64" || (await findGpus()).length > 0) {
    return { requirements, withDependencies: true, space: 9e9, download: "3 GB" };
  }
  return {
    requirements: [...requirements, "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"],
    withDependencies: false,
    space: 2e9,
    download: "530 MB",
  };
}

/**
 * Finds a torch or installs one into `.venv`, and compiles the addon for it.
 *
 * @throws MissingPiece naming what is missing
 */
export async function setupLibtorch(log: Log): Promise<void> {
  const torch = await ensureTorch(log);
  const options = { ...torch, outDir: addonFolder() };
  if (findAddon(options) !== null) return;
  log(`compiling the addon for torch ${torch.torchVersion} (once, under a minute)`);
  try {
    await buildAddon(options);
  } catch (error) {
    if (!(error instanceof AddonBuildError)) throw error;
    throw await explain(error);
  }
}

async function ensureTorch(log: Log): Promise<Torch> {
  const search = await locateTorch();
  if (search.torch !== null) {
    if (await isComplete(search.torch)) return search.torch;
    log("there is a GPU: installing torch's CUDA libraries, too");
  } else if (search.isChosen) {
    throw new MissingPiece("ESPALIER_BACKENDS_NO_TORCH", search.reasons.join("; "), {
      hint: "ESPALIER_TORCH names a Python, a virtual environment, or the folder of a torch package (2.6 or newer)",
    });
  } else {
    for (const reason of search.reasons) log(reason);
  }
  await installTorch(log);
  const installed = await locateTorch();
  if (installed.torch !== null) return installed.torch;
  throw new MissingPiece("ESPALIER_BACKENDS_NO_TORCH", installed.reasons.join("; "), {
    hint: `remove ${ownVenv()} and run the command again`,
  });
}

async function installTorch(log: Log): Promise<void> {
  const venv = ownVenv();
  await ensureVenv(venv, PYTHON, log);
  const wheel = await chooseWheel();
  log(`installing torch ${VERSION} into ${path.basename(venv)} (${wheel.download} to download, once)`);
  await pipInstall({ venv, ...wheel, log });
}

/** Whether our own torch has the CUDA libraries that a machine with a GPU needs. A user's own torch is as it is. */
async function isComplete(torch: Torch): Promise<boolean> {
  const packages = await sitePackages(ownVenv());
  if (packages === null || torch.torchRoot !== path.join(packages, "torch") || !torch.cudaAvailable)
    return true;
  return (await findGpus()).length === 0 || existsSync(path.join(packages, "nvidia", "cudnn"));
}

/** A failed build in the words of set-up; what the compiler said is kept in a file. */
async function explain(error: AddonBuildError): Promise<MissingPiece> {
  if (error.reason === "no-compiler") {
    const chosen = process.env.CXX;
    return chosen === undefined || chosen.trim() === "" ? missingCompiler() : missingChosenCompiler(chosen);
  }
  if (error.reason === "unsupported") return new MissingPiece("ESPALIER_BACKENDS_PLATFORM", error.message);
  if (/No space left on device/.test(error.output))
    return diskFull(addonFolder(), "the compiler could not write");
  const file = path.join(addonFolder(), "libtorch.log");
  await mkdir(addonFolder(), { recursive: true });
  await writeFile(file, error.output);
  return new MissingPiece("ESPALIER_BACKENDS_COMPILE", error.message, {
    file,
    cause: error,
    hint: "the log file has the whole output; a C++17 compiler is needed (g++ 9 or clang 10, or newer)",
  });
}

function missingChosenCompiler(chosen: string): MissingPiece {
  return new MissingPiece("ESPALIER_BACKENDS_NO_COMPILER", `CXX names "${chosen}", which cannot be started`, {
    hint: "unset CXX, or set it to a C++17 compiler",
  });
}
