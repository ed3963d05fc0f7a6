import { unknownName } from "@espalier/core";
import type { Backend } from "./backend.js";
import { libtorch } from "./libtorch/index.js";
import { tensorflow } from "./tensorflow/index.js";
import { wasm } from "./wasm/index.js";
import { webgpu } from "./webgpu/index.js";

/** Every backend, the best first: the order in which `auto` tries them. */
export const BACKENDS: readonly Backend[] = [libtorch, tensorflow, webgpu, wasm];

/** The names that `--backend` and `ESPALIER_BACKEND` take, `auto` first. */
export const BACKEND_NAMES: readonly string[] = ["auto", ...BACKENDS.map((backend) => backend.name)];

/**
 * The backends that a name stands for, in the order to try them: one, or all for `auto`.
 *
 * @throws UsageError listing the names where it is none
 */
export function backendsNamed(name: string): readonly Backend[] {
  if (name === "auto") return BACKENDS;
  const found = BACKENDS.find((backend) => backend.name === name);
  if (found === undefined) {
    throw unknownName("ESPALIER_BACKENDS_UNKNOWN", "backend", name, BACKEND_NAMES, { key: "backend" });
  }
  return [found];
}

/** The name asked for: the given one, else `ESPALIER_BACKEND`, else `auto`. */
export function requestedBackend(given: string | undefined): string {
  if (given !== undefined && given !== "") return given;
  const environment = process.env.ESPALIER_BACKEND;
  return environment === undefined || environment === "" ? "auto" : environment;
}
