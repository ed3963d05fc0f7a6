/**
 * Registers the backend `libtorch` as it is imported, and makes it the current one.
 *
 * The PyTorch is that of `ESPALIER_TORCH` (a Python, a virtual environment, or the folder of a torch package), else of
 * `python3`, else of `.venv` under the current folder. The addon must have been compiled before, by `buildAddon`, into `ESPALIER_ADDON_DIR`, else `.espalier/addon` under the current
 * folder: importing compiles nothing. `ESPALIER_DEVICE` and `ESPALIER_THREADS` choose device and threads.
 *
 * @packageDocumentation
 */
import { join } from "node:path";
import { setBackend } from "@tensorflow/tfjs";
import { findAddon } from "./build-addon.js";
import { findTorch, type Torch, TorchNotFoundError } from "./find-torch.js";
import { BACKEND_NAME, loadLibtorch } from "./load.js";

const { ESPALIER_TORCH, ESPALIER_ADDON_DIR, ESPALIER_DEVICE, ESPALIER_THREADS } = process.env;
const torch = firstTorch(ESPALIER_TORCH ? [ESPALIER_TORCH] : ["python3", join(process.cwd(), ".venv")]);
const outDir = ESPALIER_ADDON_DIR ?? join(process.cwd(), ".espalier", "addon");
const addonPath = findAddon({ ...torch, outDir });
if (addonPath === null) {
  throw new Error(
    `no addon is compiled for torch ${torch.torchVersion} in ${outDir}: call buildAddon from the package's main entry`,
  );
}
const threads = ESPALIER_THREADS === undefined ? undefined : Number(ESPALIER_THREADS);
loadLibtorch({ addonPath, device: ESPALIER_DEVICE, threads });
// The factory is synchronous, so the backend is there when this line is over.
void setBackend(BACKEND_NAME);

function firstTorch(places: readonly string[]): Torch {
  const reasons: string[] = [];
  for (const place of places) {
    try {
      return findTorch(place);
    } catch (error) {
      if (!(error instanceof TorchNotFoundError)) throw error;
      reasons.push(error.message);
    }
  }
  throw new TorchNotFoundError(reasons.join("; "));
}
