import { EspalierError } from "@espalier/core";
import {
  DeviceError,
  findAddon,
  type LoadLibtorchOptions,
  libtorchInfo,
  loadLibtorch,
  type Torch,
} from "@espalier/tfjs-backend-libtorch/parts";
import * as tf from "@tensorflow/tfjs";
import type { Backend, Finding, LoadOptions } from "../backend.js";
import { addonFolder } from "../folders.js";
import { findGpus } from "../machine.js";
import { libtorchCapabilities } from "./capabilities.js";
import { checkDevice, explainFailure } from "./device.js";
import { locateTorch } from "./locate.js";
import { setupLibtorch } from "./setup.js";

const FIX = "npx espalier setup libtorch";

interface Parts {
  readonly torch: Torch;
  readonly addon: string;
  readonly source: string;
}

type Missing = Extract<Finding, { usable: false }>;

async function findParts(): Promise<Parts | Missing> {
  const search = await locateTorch();
  if (search.torch === null) {
    const fix = search.isChosen ? "set ESPALIER_TORCH to a torch 2.6 or newer, or unset it" : FIX;
    return { usable: false, version: null, why: search.reasons.join("; "), fix };
  }
  const { torch, source } = search;
  const addon = findAddon({ ...torch, outDir: addonFolder() });
  if (addon !== null) return { torch, addon, source };
  return {
    usable: false,
    version: `torch ${torch.torchVersion}`,
    why: "its addon is not compiled",
    fix: FIX,
  };
}

/** PyTorch's operator library under a TensorFlow.js backend of our own: the default. */
export const libtorch: Backend = {
  name: "libtorch",
  description: "PyTorch's ATen operators, by an addon of Espalier, on CPU and NVIDIA GPUs",
  native: true,

  async find() {
    const parts = await findParts();
    if ("usable" in parts) return parts;
    const { torch, source } = parts;
    const gpu =
      torch.cudaVersion === null ? "" : torch.cudaAvailable ? `, CUDA ${torch.cudaVersion}` : ", no GPU here";
    return { usable: true, version: `torch ${torch.torchVersion}`, why: `${source}${gpu}` };
  },

  setup: setupLibtorch,

  async load({ device, threads, deterministic, log }: LoadOptions) {
    const parts = await findParts();
    if ("usable" in parts) {
      throw new EspalierError(
        "ESPALIER_BACKENDS_NOT_SET_UP",
        `backend libtorch cannot be used: ${parts.why}`,
        {
          hint: `get it with: ${parts.fix}`,
        },
      );
    }
    const { torch, addon } = parts;
    await checkDevice(device, torch, findGpus);
    const fallbacks: string[] = [];
    const options = { addonPath: addon, threads, deterministic };
    if (device === "auto" && torch.cudaAvailable) fallbacks.push(...loadOnGpuIfItWorks(options));
    else await loadOn(device === "auto" ? "cpu" : device, torch, options);
    for (const fallback of fallbacks) log(fallback);
    await tf.setBackend("libtorch");
    const info = libtorchInfo();
    if (info === null) throw new Error("libtorch was loaded and says it was not");
    return { device: info.device, threads: info.threads, version: `torch ${torch.torchVersion}`, fallbacks };
  },

  capabilities: libtorchCapabilities,
};

type HowToLoad = Pick<LoadLibtorchOptions, "addonPath" | "threads" | "deterministic">;

/** Asked for nothing in particular, a machine without a working GPU is no reason not to train. */
function loadOnGpuIfItWorks(options: HowToLoad): string[] {
  try {
    loadLibtorch({ ...options, device: "cuda:0" });
    return [];
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
    loadLibtorch({ ...options, device: "cpu" });
    return [`the GPU cannot be used, computing on the CPU: ${reason}`];
  }
}

/** @throws UsageError where this torch, or this machine, does not have the device after all */
async function loadOn(device: string, torch: Torch, options: HowToLoad): Promise<void> {
  try {
    loadLibtorch({ ...options, device });
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    throw explainFailure(device, torch, await findGpus(), error);
  }
}
