import { createRequire } from "node:module";
import * as tf from "@tensorflow/tfjs";
import type { Backend } from "../backend.js";
import { withoutHalfPrecision } from "../capabilities.js";
import { noSuchDevice } from "../device.js";
import { registerUnsortedSegmentSum } from "./unsorted-segment-sum.js";

function version(): string {
  const manifest = createRequire(import.meta.url)("@tensorflow/tfjs-backend-wasm/package.json") as {
    version: string;
  };
  return `tfjs-backend-wasm ${manifest.version}`;
}

/** TensorFlow.js's WebAssembly engine: needs nothing but Node, computes on one thread. */
export const wasm: Backend = {
  name: "wasm",
  description: "WebAssembly, one thread: the last resort where there is no Python or compiler",
  native: false,

  async find() {
    return { usable: true, version: version(), why: "comes with Espalier; one thread, the last resort" };
  },

  async setup() {
    // an ordinary dependency: nothing to find or compile
  },

  async load({ device, log }) {
    if (device !== "auto" && device !== "cpu") {
      throw noSuchDevice("wasm", device, "it runs on cpu only", "choose --backend libtorch for a GPU");
    }
    await import("@tensorflow/tfjs-backend-wasm");
    registerUnsortedSegmentSum();
    await tf.setBackend("wasm");
    log(
      "backend wasm is the last resort: one thread, many times slower; `espalier setup libtorch` gets the fast one",
    );
    return { device: "cpu", threads: 1, version: version(), fallbacks: [] };
  },

  async capabilities() {
    return withoutHalfPrecision;
  },
};
