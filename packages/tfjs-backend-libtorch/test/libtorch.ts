import { fileURLToPath } from "node:url";
import * as tf from "@tensorflow/tfjs";
import { buildAddon, findAddon, findTorch, loadLibtorch, type Torch } from "../src/parts.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));

/** The PyTorch that the tests run on, in the order of `espalier setup`: `ESPALIER_TORCH`, `python3`'s, the repository's. */
export function torchOfTests(): Torch {
  const chosen = process.env.ESPALIER_TORCH;
  if (chosen) return findTorch(chosen);
  try {
    return findTorch("python3");
  } catch {
    return findTorch(`${root}.venv`);
  }
}

/** Where compiled addons are kept in this repository. */
export const addonFolder = `${root}.espalier/addon`;

/** The addon that `useLibtorch` built and loaded. */
export function addonPathOfTests(): string {
  const path = findAddon({ ...torchOfTests(), outDir: addonFolder });
  if (path === null) throw new Error("the addon is not built yet: call useLibtorch first");
  return path;
}

/** Loads the backend into the test's process and makes it the current one. */
export async function useLibtorch(device = "cpu"): Promise<void> {
  const { path } = await buildAddon({ ...torchOfTests(), outDir: addonFolder });
  loadLibtorch({ addonPath: path, device, threads: 2 });
  await tf.setBackend("libtorch");
}

/** Runs one of the fused kernels, which always give a list. */
export function runKernels(
  name: string,
  inputs: Record<string, tf.Tensor>,
  attrs: Record<string, unknown> = {},
): tf.Tensor[] {
  const result = tf.engine().runKernel(name, inputs as never, attrs as never) as tf.Tensor | tf.Tensor[];
  return Array.isArray(result) ? result : [result];
}

/** A tensor of pseudo-random normal values, the same in every run. */
export function normal(shape: number[], seed: number): tf.Tensor {
  return tf.randomNormal(shape, 0, 1, "float32", seed);
}
