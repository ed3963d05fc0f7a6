import { EspalierError } from "@espalier/core";
import { findAddon, libtorchInfo, loadLibtorch, type Torch } from "@espalier/tfjs-backend-libtorch/parts";
import * as tf from "@tensorflow/tfjs";
import type { Backend, Finding, LoadOptions } from "../backend.js";
import { addonFolder } from "../folders.js";
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

  async load({ device, threads, log }: LoadOptions) {
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
    checkDevice(device, torch);
    if (device !== "auto") loadLibtorch({ addonPath: addon, device, threads });
    else if (!torch.cudaAvailable) loadLibtorch({ addonPath: addon, device: "cpu", threads });
    else loadOnGpuIfItWorks(addon, threads, log);
    await tf.setBackend("libtorch");
    const info = libtorchInfo();
    if (info === null) throw new Error("libtorch was loaded and says it was not");
    return { device: info.device, threads: info.threads, version: `torch ${torch.torchVersion}` };
  },
};

/** A driver without a working GPU is no reason not to train. */
function loadOnGpuIfItWorks(addonPath: string, threads: number, log: LoadOptions["log"]): void {
  try {
    loadLibtorch({ addonPath, device: "cuda:0", threads });
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
    log(`the GPU cannot be used, computing on the CPU: ${reason}`);
    loadLibtorch({ addonPath, device: "cpu", threads });
  }
}

/** @throws EspalierError where this torch, or this machine, cannot have the device */
function checkDevice(device: string, torch: Torch): void {
  if (device === "auto" || device === "cpu") return;
  const refuse = (why: string, hint: string) => {
    throw new EspalierError(
      "ESPALIER_BACKENDS_NO_DEVICE",
      `backend libtorch has no device "${device}": ${why}`,
      {
        key: "device",
        hint,
      },
    );
  };
  if (!device.startsWith("cuda"))
    refuse("expected cpu or cuda:<index>", "--device cpu runs on the processor");
  if (torch.cudaVersion === null) {
    refuse(
      `torch ${torch.torchVersion} is a build without CUDA`,
      "set ESPALIER_TORCH to a Python whose torch has CUDA, or choose --device cpu",
    );
  }
  if (!torch.cudaAvailable) {
    refuse("there is no NVIDIA driver on this machine", "--device cpu runs on the processor");
  }
}
