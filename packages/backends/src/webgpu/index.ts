import { EspalierError, UsageError } from "@espalier/core";
import type { Backend, Finding, LoadOptions } from "../backend.js";
import { withoutHalfPrecision } from "../capabilities.js";
import { type Adapter, findAdapter } from "./adapter.js";
import { type Dawn, findDawn, startDawn } from "./dawn.js";
import { startEngine } from "./engine.js";
import { adapterFix, setupWebGpu } from "./setup.js";
import { hasVulkanLoader, usesVulkan } from "./vulkan.js";

const FIX = "npx espalier setup webgpu";

interface Parts {
  readonly dawn: Dawn;
  readonly adapter: Adapter;
}

type Missing = Extract<Finding, { usable: false }>;

async function findParts(): Promise<Parts | Missing> {
  const dawn = findDawn();
  const version = dawn === null ? null : versionOf(dawn);
  const missing = (why: string, fix: string): Missing => ({ usable: false, version, why, fix });
  if (usesVulkan && !hasVulkanLoader()) return missing("there is no Vulkan (libvulkan.so.1)", adapterFix());
  if (dawn === null) return missing("Dawn (npm's webgpu) is not installed", FIX);
  const adapter = await findAdapter(dawn);
  return adapter === null ? missing("no graphics driver gives an adapter", adapterFix()) : { dawn, adapter };
}

function versionOf(dawn: Dawn): string {
  return `dawn ${dawn.version}`;
}

/** TensorFlow.js's WebGPU engine on Dawn: GPUs of any vendor, by Vulkan, Metal or Direct3D. */
export const webgpu: Backend = {
  name: "webgpu",
  description: "WebGPU on Dawn: GPUs of any vendor, by Vulkan, Metal or Direct3D",
  native: false,

  async find() {
    const parts = await findParts();
    if ("usable" in parts) return parts;
    const { dawn, adapter } = parts;
    const kind = adapter.isSoftware ? "software, on the processor: only to try it" : "hardware";
    return { usable: true, version: versionOf(dawn), why: `${adapter.description} (${kind})` };
  },

  async whyNotAutomatic() {
    const parts = await findParts();
    if ("usable" in parts) return parts.why;
    return parts.adapter.isSoftware ? `${parts.adapter.description} computes in software` : null;
  },

  setup: setupWebGpu,

  async load({ device }: LoadOptions) {
    const parts = await findParts();
    if ("usable" in parts) {
      throw new EspalierError("ESPALIER_BACKENDS_NOT_SET_UP", `backend webgpu cannot be used: ${parts.why}`, {
        hint: `get it with: ${parts.fix}`,
      });
    }
    const { dawn, adapter } = parts;
    const used = adapter.isSoftware ? "cpu" : "gpu";
    if (device !== "auto" && device !== used) {
      throw new UsageError(
        "ESPALIER_BACKENDS_NO_DEVICE",
        `backend webgpu has no device "${device}": its adapter is ${adapter.description} (${used})`,
        { key: "device", hint: "leave the device to auto, or choose --backend libtorch" },
      );
    }
    if (adapter.driverFile !== null) process.env.VK_DRIVER_FILES = adapter.driverFile;
    await startEngine(await startDawn(dawn.entry));
    return { device: used, threads: 1, version: versionOf(dawn), fallbacks: [] };
  },

  async capabilities() {
    return withoutHalfPrecision;
  },
};
