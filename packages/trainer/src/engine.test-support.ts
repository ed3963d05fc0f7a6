import { loadBackend } from "@espalier/backends";

/** The engine that a test runs on: that of its project, else libtorch. One thread: the models are tiny. */
export async function loadEngine(): Promise<void> {
  await loadBackend({ backend: process.env.ESPALIER_BACKEND ?? "libtorch", threads: 1 });
}
