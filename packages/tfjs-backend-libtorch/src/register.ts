import { accessSync, constants, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setBackend } from "@tensorflow/tfjs";
import { AddonBuildError, buildAddonSync, findAddon } from "./build-addon.js";
import { findTorch, type Torch, TorchNotFoundError } from "./find-torch.js";
import { BACKEND_NAME, loadLibtorch } from "./load.js";

/** What `registerLibtorch` reads of the environment. */
export interface Environment {
  /** A Python, a virtual environment, or the folder of a torch package. */
  readonly ESPALIER_TORCH?: string | undefined;
  /** The folder of compiled addons. */
  readonly ESPALIER_ADDON_DIR?: string | undefined;
  /** `cpu`, `cuda`, `cuda:1`, ... */
  readonly ESPALIER_DEVICE?: string | undefined;
  readonly ESPALIER_THREADS?: string | undefined;
}

/**
 * Finds PyTorch, compiles the addon for it where that was not done before, registers the backend and makes it the current
 * one. All of it is done when this returns: the first time after the compiler's minute, later after some 200 ms.
 *
 * @throws TorchNotFoundError when there is no PyTorch, AddonBuildError when the addon cannot be compiled, Error for an
 *   environment variable that makes no sense or a device that cannot be used; each says what to do
 */
export function registerLibtorch(environment: Environment = process.env): void {
  const threads = threadsOf(environment.ESPALIER_THREADS);
  const torch = torchOf(environment.ESPALIER_TORCH);
  const addonPath = addonOf(torch, environment.ESPALIER_ADDON_DIR);
  loadLibtorch({ addonPath, device: deviceOf(environment.ESPALIER_DEVICE, torch), threads });
  // The factory is synchronous, so the backend is there when this line is over.
  void setBackend(BACKEND_NAME);
}

/** `auto` is a GPU where this PyTorch and the machine have one. */
function deviceOf(given: string | undefined, torch: Torch): string | undefined {
  if (given === "auto") return torch.cudaAvailable ? "cuda" : "cpu";
  return given || undefined;
}

function threadsOf(given: string | undefined): number | undefined {
  if (given === undefined || given === "") return undefined;
  const threads = Number(given);
  if (Number.isInteger(threads) && threads >= 1) return threads;
  throw new Error(`ESPALIER_THREADS: expected a whole number of at least 1, got '${given}'`);
}

function torchOf(chosen: string | undefined): Torch {
  const places = chosen ? [chosen] : ["python3", join(process.cwd(), ".venv")];
  const reasons: string[] = [];
  for (const place of places) {
    try {
      return findTorch(place);
    } catch (error) {
      if (!(error instanceof TorchNotFoundError)) throw error;
      reasons.push(error.message);
    }
  }
  const advice = chosen
    ? "ESPALIER_TORCH names a Python, a virtual environment, or the folder of a torch package"
    : "install it (pip install torch), or name one in ESPALIER_TORCH";
  throw new TorchNotFoundError(`PyTorch was not found: ${reasons.join("; ")}. To do: ${advice}.`);
}

/** The compiled addon: one that is there already, else compiled into a folder that the user's programs share. */
function addonOf(torch: Torch, chosen: string | undefined): string {
  const folders = chosen ? [chosen] : [join(process.cwd(), ".espalier", "addon"), cacheFolder()];
  for (const outDir of folders) {
    const found = findAddon({ ...torch, outDir });
    if (found !== null) return found;
  }
  const outDir = folders.at(-1) ?? cacheFolder();
  checkWritable(outDir);
  process.stderr.write(
    `libtorch: compiling the addon for torch ${torch.torchVersion} (once, under a minute)\n`,
  );
  try {
    return buildAddonSync({ ...torch, outDir }).path;
  } catch (error) {
    if (!(error instanceof AddonBuildError) || error.reason !== "compile-failed") throw error;
    const last = error.output.trim().split("\n").slice(-20).join("\n");
    throw new AddonBuildError(error.reason, `${error.message}\n${last}`, error.output);
  }
}

function checkWritable(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (cause) {
    throw new Error(
      `the compiled addon cannot be kept in ${folder}: name another folder in ESPALIER_ADDON_DIR`,
      {
        cause,
      },
    );
  }
}

function cacheFolder(): string {
  const system =
    process.platform === "darwin"
      ? join(homedir(), "Library", "Caches")
      : (process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"));
  return join(system, "espalier", "addon");
}
