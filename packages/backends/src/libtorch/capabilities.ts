import { readFileSync } from "node:fs";
import type { Capability } from "../backend.js";
import { findGpus, type Gpu } from "../machine.js";

/** What libtorch does of itself on a device, and what it does another way. */
export async function libtorchCapabilities(device: string): Promise<readonly Capability[]> {
  return device.startsWith("cuda") ? ofGpu(await gpuOf(device)) : ofProcessor(processorFlags());
}

/** The GPU behind `cuda:<index>`; null where the driver's program does not tell which it is. */
async function gpuOf(device: string): Promise<Gpu | null> {
  // The variable renumbers GPUs: by index or by name, which nvidia-smi's list does not follow.
  const visible = process.env.CUDA_VISIBLE_DEVICES;
  const index = Number(device.split(":")[1] ?? 0);
  const place = visible === undefined ? index : Number(visible.split(",")[index] ?? Number.NaN);
  return (await findGpus()).find((gpu) => gpu.index === place) ?? null;
}

/** By NVIDIA's compute capability: 8.0 (Ampere) is the first with bfloat16 products and the flash attention kernels. */
export function ofGpu(gpu: Gpu | null): readonly Capability[] {
  const generation = gpu?.computeCapability ?? null;
  if (generation === null) {
    const unknown = "nvidia-smi does not tell the GPU's compute capability; 8.0 or newer is needed";
    return [
      { name: "bf16", available: null, how: unknown },
      { name: "attention", available: null, how: unknown },
    ];
  }
  const isAmpere = generation >= 8;
  const shown = `compute capability ${generation.toFixed(1)}`;
  return [
    {
      name: "bf16",
      available: isAmpere,
      how: isAmpere ? `in hardware (${shown})` : `emulated and slow (${shown}; 8.0 has it): use fp32`,
    },
    {
      name: "attention",
      available: isAmpere,
      how: isAmpere
        ? "PyTorch's flash, memory-efficient or cuDNN kernels"
        : `without flash attention (${shown}; 8.0 has it): memory-efficient kernels`,
    },
  ];
}

/** @param flags what the processor says of itself; null where it is not asked (not Linux) */
export function ofProcessor(flags: ReadonlySet<string> | null): readonly Capability[] {
  const attention: Capability = { name: "attention", available: true, how: "kernels for the CPU" };
  if (flags === null) return [attention, { name: "bf16", available: null, how: "as the processor has it" }];
  const own = ["amx_bf16", "avx512_bf16", "bf16"].filter((flag) => flags.has(flag));
  const bf16: Capability =
    own.length > 0
      ? { name: "bf16", available: true, how: `in hardware (${own.join(", ")})` }
      : { name: "bf16", available: false, how: "emulated by this processor and slow: use fp32" };
  return [attention, bf16];
}

function processorFlags(): ReadonlySet<string> | null {
  if (process.platform !== "linux") return null;
  const line = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  return line === undefined ? null : new Set(line.trim().split(/\s+/));
}
