import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { EspalierError } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import type { Backend, Finding, LoadOptions } from "../backend.js";
import { withoutHalfPrecision } from "../capabilities.js";
import { noSuchDevice } from "../device.js";
import { findGpus } from "../machine.js";
import { restoreNodeFunctions } from "../node-compatibility.js";
import { addonFile, linkAddon, packageFolder } from "./addon.js";
import { setupTensorFlow } from "./setup.js";
import { findWheel, type TensorFlowWheel } from "./wheel.js";

const FIX = "npx espalier setup tensorflow";
const GPU_WHEEL =
  "on a machine with a GPU, remove the wheel's virtual environment and run npx espalier setup tensorflow: it then installs tensorflow[and-cuda]; --device cpu runs on the processor";

type Parts =
  | { readonly complete: true; readonly wheel: TensorFlowWheel; readonly folder: string }
  | { readonly complete: false; readonly finding: Finding };

async function findParts(): Promise<Parts> {
  const missing = (version: string | null, why: string, fix = FIX): Parts => ({
    complete: false,
    finding: { usable: false, version, why, fix },
  });
  const folder = packageFolder();
  if (folder === null) {
    const fix = "npm install @tensorflow/tfjs-node-gpu@4.22.0 --ignore-scripts";
    return missing(null, "the optional package @tensorflow/tfjs-node-gpu is not installed", fix);
  }
  const wheel = await findWheel();
  if (wheel === null) return missing(null, "its Python wheel is not installed");
  const version = `tensorflow ${wheel.version}`;
  if (!existsSync(addonFile(wheel, folder)))
    return missing(version, "its addon is not compiled for this wheel");
  return { complete: true, wheel, folder };
}

/** The part of the package's backend that is used here. */
interface TensorFlowBackend {
  readonly isUsingGpuDevice: boolean;
}

/** The TensorFlow wheel from PyPI under the package `tfjs-node-gpu`: CPU and NVIDIA GPUs, a second opinion on numbers. */
export const tensorflow: Backend = {
  name: "tensorflow",
  description: "TensorFlow's C library, by tfjs-node-gpu, built against the wheel from PyPI",
  native: true,

  async find() {
    const parts = await findParts();
    if (!parts.complete) return parts.finding;
    const { wheel } = parts;
    const kind = wheel.cuda ? "the CUDA 12 wheel" : "the CPU wheel";
    // It was installed before there was a GPU here; the addon is the same for both.
    const unused = !wheel.cuda && (await findGpus()).length > 0 ? "; the GPU needs tensorflow[and-cuda]" : "";
    return {
      usable: true,
      version: `tensorflow ${wheel.version}`,
      why: `${kind} in ${venvOf(wheel)}${unused}`,
    };
  },

  setup: setupTensorFlow,

  async load({ device, threads, deterministic, log }: LoadOptions) {
    const parts = await findParts();
    if (!parts.complete) throw notSetUp(parts.finding);
    const { wheel, folder } = parts;
    chooseDevice(device, wheel);
    // TensorFlow reads these once, when it makes its thread pools
    process.env.TF_NUM_INTRAOP_THREADS = String(threads);
    process.env.OMP_NUM_THREADS = String(threads);
    process.env.TF_CPP_MIN_LOG_LEVEL ??= "2";
    if (deterministic) process.env.TF_DETERMINISTIC_OPS = "1";
    const restored = restoreNodeFunctions();
    if (restored.length > 0)
      log(`Node ${process.versions.node} lacks ${restored.join(", ")}: put back for tfjs-node`);
    await linkAddon(wheel, folder);
    createRequire(import.meta.url)("@tensorflow/tfjs-node-gpu"); // CommonJS: registers itself and its kernels
    const backend = tf.backend() as unknown as TensorFlowBackend; // the class has no type that is exported
    if (device.startsWith("cuda") && !backend.isUsingGpuDevice) {
      const hint = "espalier doctor lists the GPUs; --device cpu runs on the processor";
      throw noSuchDevice("tensorflow", device, "TensorFlow finds no GPU that it can use", hint);
    }
    const used = backend.isUsingGpuDevice ? (device === "auto" ? "cuda:0" : device) : "cpu";
    return { device: used, threads, version: `tensorflow ${wheel.version}`, fallbacks: [] };
  },

  async capabilities() {
    return withoutHalfPrecision;
  },
};

function notSetUp(finding: Finding): EspalierError {
  const fix = finding.usable ? FIX : finding.fix;
  return new EspalierError(
    "ESPALIER_BACKENDS_NOT_SET_UP",
    `backend tensorflow is not set up: ${finding.why}`,
    {
      hint: `${fix} sets it up`,
    },
  );
}

function chooseDevice(device: string, wheel: TensorFlowWheel): void {
  if (device === "auto") return;
  if (device === "cpu") {
    process.env.CUDA_VISIBLE_DEVICES = "";
    return;
  }
  const index = /^cuda:(\d+)$/.exec(device)?.[1];
  if (index === undefined || !wheel.cuda) {
    const found =
      index === undefined
        ? "expected cpu or cuda:<index>"
        : `tensorflow ${wheel.version} here is the CPU wheel`;
    throw noSuchDevice("tensorflow", device, found, GPU_WHEEL);
  }
  process.env.CUDA_VISIBLE_DEVICES = index;
}

/** The virtual environment's name, from `<venv>/lib/python3.11/site-packages/tensorflow`. */
function venvOf(wheel: TensorFlowWheel): string {
  return path.basename(path.resolve(wheel.folder, "../../../.."));
}
