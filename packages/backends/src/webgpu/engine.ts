import { EspalierError } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import type { Gpu } from "./dawn.js";
import { registerSegmentSum } from "./segment-sum.js";
import { loadPackage, type WebGpuEngine } from "./tfjs-webgpu.js";

/** Dawn ends with its entry object, also under a device in use: it crashes the process if that is collected. */
const inUse = new Set<Gpu>();

/**
 * Makes TensorFlow.js's WebGPU engine the current backend of this process.
 *
 * The engine finds WebGPU where a browser has it, at `navigator.gpu`. It is taken away again once the engine has its
 * device: other programs take what is there for a browser.
 */
export async function startEngine(gpu: Gpu): Promise<void> {
  inUse.add(gpu);
  const scope = globalThis as unknown as { navigator?: { gpu?: Gpu } }; // Node 20 has no navigator
  const hadNavigator = scope.navigator !== undefined;
  if (!hadNavigator) Object.defineProperty(scope, "navigator", { value: {}, configurable: true });
  Object.defineProperty(scope.navigator, "gpu", { value: gpu, configurable: true });
  try {
    const { webgpu_util } = await loadPackage();
    computeInOneOrder(webgpu_util.MatMulProgramType.MatMulPackedProgram);
    registerSegmentSum(webgpu_util);
    await tf.setBackend("webgpu");
  } finally {
    delete scope.navigator?.gpu;
    if (!hadNavigator) delete scope.navigator;
  }
  reportLateErrors(tf.backend() as unknown as WebGpuEngine);
}

/**
 * What the engine would decide by speed is fixed, so that a run's losses come out the same each time: its product of
 * matrices split along the inner axis adds in whatever order the threads come, and small tensors are computed by
 * JavaScript if they happen to have been read before.
 */
function computeInOneOrder(matMulProgram: number): void {
  tf.env().set("WEBGPU_MATMUL_PROGRAM_TYPE", matMulProgram);
  tf.env().set("WEBGPU_CPU_FORWARD", false);
}

/**
 * WebGPU tells of errors (out of memory, a lost device) after the fact and computes on with zeros. Here the next reading
 * of a result fails instead.
 */
function reportLateErrors(backend: WebGpuEngine): void {
  let failure: EspalierError | null = null;
  const fail = (what: string) => {
    failure ??= new EspalierError("ESPALIER_BACKENDS_WEBGPU", `the WebGPU device failed: ${what}`, {
      hint: "a smaller training.batchSize needs less memory; --backend libtorch computes without WebGPU",
    });
  };
  backend.device.addEventListener("uncapturederror", (event) => {
    fail(firstLine(event.error.message));
  });
  void backend.device.lost.then(({ reason, message }) => {
    if (reason !== "destroyed") fail(`it was lost (${firstLine(message)})`);
  });
  const read = backend.read.bind(backend);
  backend.read = async (dataId) => {
    const values = await read(dataId);
    if (failure !== null) throw failure;
    return values;
  };
}

function firstLine(text: string): string {
  return text.split("\n")[0] ?? "";
}
