import { EspalierError, type UsageError } from "@espalier/core";
import type { DeviceError, Torch } from "@espalier/tfjs-backend-libtorch/parts";
import { noSuchDevice } from "../device.js";
import type { Gpu } from "../machine.js";

/** The oldest driver that runs CUDA of a major version, as NVIDIA's table of minor-version compatibility has it. */
const OLDEST_DRIVER: Readonly<Record<string, string>> = { 11: "450.80", 12: "525.60", 13: "580.65" };

const ON_CPU = "--device cpu runs on the processor";

function refuse(device: string, found: string, hint: string): UsageError {
  return noSuchDevice("libtorch", device, found, `${hint}; ${ON_CPU}`);
}

/**
 * Refuses a device that this torch, or this machine, cannot have, as far as that is known without loading anything.
 *
 * @param gpus what the driver lists; asked only where the driver's own files are not seen
 * @throws UsageError ESPALIER_BACKENDS_NO_DEVICE
 */
export async function checkDevice(
  device: string,
  torch: Torch,
  gpus: () => Promise<readonly Gpu[]>,
): Promise<void> {
  if (device === "auto" || device === "cpu") return;
  if (!device.startsWith("cuda"))
    throw noSuchDevice("libtorch", device, "expected cpu or cuda:<index>", ON_CPU);
  if (torch.cudaVersion === null)
    throw refuse(
      device,
      `torch ${torch.torchVersion} in ${torch.torchRoot} is a build without CUDA`,
      "set ESPALIER_TORCH to a Python whose torch has CUDA",
    );
  if (!torch.cudaAvailable && (await gpus()).length === 0)
    throw refuse(
      device,
      "there is no NVIDIA driver on this machine",
      "install the driver (nvidia-smi must list the GPU), or give the container its GPUs (docker run --gpus all)",
    );
}

/** What PyTorch said of a device that it could not ready, with what was found and what to do about it. */
export function explainFailure(
  device: string,
  torch: Torch,
  gpus: readonly Gpu[],
  error: DeviceError,
): EspalierError {
  const built = `torch ${torch.torchVersion} was built for CUDA ${torch.cudaVersion}`;
  const driver = gpus[0]?.driver;
  const oldest = OLDEST_DRIVER[torch.cudaVersion?.split(".")[0] ?? ""];
  switch (error.reason) {
    case "not-in-build":
      return refuse(
        device,
        `torch ${torch.torchVersion} in ${torch.torchRoot} is a build without CUDA`,
        "set ESPALIER_TORCH to a Python whose torch has CUDA",
      );
    case "missing-library":
      return refuse(
        device,
        `${built}, but a library of NVIDIA's is not installed: ${error.message}`,
        `python3 -m pip install "torch==${torch.torchVersion.split("+")[0]}" installs torch with all of them; set-up does so by itself where it sees a GPU`,
      );
    case "driver-too-old": {
      const found = driver === undefined ? "the NVIDIA driver" : `the NVIDIA driver ${driver}`;
      const takes = error.driverCuda === null ? "" : ` (it takes CUDA ${error.driverCuda})`;
      const wanted = oldest === undefined ? "a newer driver" : `driver ${oldest} or newer`;
      return refuse(
        device,
        `${built}, for which ${found} is too old${takes}`,
        `install ${wanted}, or set ESPALIER_TORCH to a torch built for an older CUDA`,
      );
    }
    case "no-driver":
      return refuse(
        device,
        "PyTorch finds no NVIDIA driver",
        "install the driver (nvidia-smi must list the GPU), or give the container its GPUs (docker run --gpus all)",
      );
    case "none": {
      const hidden = process.env.CUDA_VISIBLE_DEVICES;
      const listed = gpus.length === 0 ? "none" : gpus.map((gpu) => gpu.name).join(", ");
      const because = hidden === undefined ? "" : `, CUDA_VISIBLE_DEVICES is "${hidden}"`;
      return refuse(
        device,
        `PyTorch sees no GPU (the driver lists ${listed}${because})`,
        hidden === undefined ? "nvidia-smi must list the GPU" : "unset CUDA_VISIBLE_DEVICES",
      );
    }
    case "index":
      return refuse(device, error.message.replace(/^cuda:\d+: /, ""), "espalier doctor lists the GPUs");
    case "unknown":
      return new EspalierError(
        "ESPALIER_BACKENDS_DEVICE_FAILED",
        `the device "${device}" does not start (${built}${driver === undefined ? "" : `, driver ${driver}`}): ${error.message}`,
        { key: "device", hint: ON_CPU, cause: error },
      );
  }
}
