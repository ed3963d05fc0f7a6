#!/usr/bin/env node
/**
 * Times the same TensorFlow.js programs on this backend, tfjs-node, wasm and cpu, and prints a Markdown table.
 *
 *   node packages/tfjs-backend-libtorch/benchmarks/backends.mjs [--threads 2] [--rounds 3] [--window 80] [--case 0]
 *
 * Each backend has a process of its own, which works only when it is asked: windows of `--window` milliseconds are taken in
 * alternation, and the median of `--rounds` windows counts. A backend that cannot be loaded, or lacks a kernel, is said so.
 */
import { fork } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const BACKENDS = ["libtorch", "tensorflow", "wasm", "cpu"];
/** A window that took this long is not repeated. */
const SLOW_MS = 1500;

/** How each backend is loaded, in its own process, and the one copy of TensorFlow.js that it uses. */
async function load(backend) {
  const require = createRequire(import.meta.url);
  if (backend === "libtorch") await import("../dist/index.js");
  else if (backend === "tensorflow") require("@tensorflow/tfjs-node-gpu");
  else if (backend === "wasm") {
    const wasm = require("@tensorflow/tfjs-backend-wasm");
    wasm.setWasmPaths(`${require.resolve("@tensorflow/tfjs-backend-wasm/package.json").slice(0, -12)}dist/`);
  }
  const tf = require("@tensorflow/tfjs");
  if (!(await tf.setBackend(backend))) throw new Error("it cannot be used here");
  return tf;
}

/** A network for `fit`, with the data of one epoch. */
function fitting(tf, layers, inputShape, rows, batchSize) {
  const x = tf.randomNormal([rows, ...inputShape], 0, 1, "float32", 1);
  const y = tf.oneHot(tf.tensor1d(Int32Array.from({ length: rows }, (_, row) => row % 10)), 10).toFloat();
  const model = tf.sequential({ layers });
  model.compile({ optimizer: tf.train.adam(1e-3), loss: "categoricalCrossentropy" });
  return async () => {
    await model.fit(x, y, { epochs: 1, batchSize, shuffle: false, verbose: 0, yieldEvery: "never" });
  };
}

/** Each case makes what it needs and gives the function to time; one call is one unit of the table. */
const CASES = [
  {
    name: "matrix product, 1024×1024",
    make(tf) {
      const [a, b] = [1, 2].map((seed) => tf.randomNormal([1024, 1024], 0, 1, "float32", seed));
      return () => tf.tidy(() => tf.matMul(a, b).slice([0, 0], [1, 1]).dataSync());
    },
  },
  {
    name: "conv2d 3×3, 2×56×56×64",
    make(tf) {
      const x = tf.randomNormal([2, 56, 56, 64], 0, 1, "float32", 1);
      const filter = tf.randomNormal([3, 3, 64, 64], 0, 1, "float32", 2);
      return () =>
        tf.tidy(() => tf.conv2d(x, filter, 1, "same").slice([0, 0, 0, 0], [1, 1, 1, 1]).dataSync());
    },
  },
  {
    name: "tanh(a·b + c), 1 M elements",
    make(tf) {
      const [a, b, c] = [1, 2, 3].map((seed) => tf.randomNormal([1024, 1024], 0, 1, "float32", seed));
      return () => tf.tidy(() => a.mul(b).add(c).tanh().slice([0, 0], [1, 1]).dataSync());
    },
  },
  {
    name: "1 000 additions of 4 elements",
    make(tf) {
      const [a, b] = [tf.tensor1d([1, 2, 3, 4]), tf.tensor1d([5, 6, 7, 8])];
      return () => {
        for (let count = 0; count < 1000; count++) a.add(b).dispose();
      };
    },
  },
  {
    name: "`fit`, dense 784-256-10, 16 batches of 64",
    make(tf) {
      const layers = [
        tf.layers.dense({ inputShape: [784], units: 256, activation: "relu" }),
        tf.layers.dense({ units: 10, activation: "softmax" }),
      ];
      return fitting(tf, layers, [784], 1024, 64);
    },
  },
  {
    name: "`fit`, two convolutions on 28×28, 4 batches of 32",
    make(tf) {
      const layers = [
        tf.layers.conv2d({ inputShape: [28, 28, 1], filters: 16, kernelSize: 3, activation: "relu" }),
        tf.layers.maxPooling2d({ poolSize: 2 }),
        tf.layers.conv2d({ filters: 32, kernelSize: 3, activation: "relu" }),
        tf.layers.maxPooling2d({ poolSize: 2 }),
        tf.layers.flatten(),
        tf.layers.dense({ units: 10, activation: "softmax" }),
      ];
      return fitting(tf, layers, [28, 28, 1], 128, 32);
    },
  },
];

/** The side of a backend's process: answers each request with milliseconds a call, or why there are none. */
async function serve(backend) {
  const tf = await load(backend);
  let current = -1;
  let work = null;
  process.on("message", async ({ index, window }) => {
    try {
      if (index !== current) {
        tf.disposeVariables();
        work = CASES[index].make(tf);
        current = index;
        const first = performance.now();
        await work();
        const milliseconds = performance.now() - first;
        // What takes seconds is not slower for being new.
        if (milliseconds > SLOW_MS) return process.send({ milliseconds });
      }
      const start = performance.now();
      let calls = 0;
      do {
        await work();
        calls++;
      } while (performance.now() - start < window);
      process.send({ milliseconds: (performance.now() - start) / calls });
    } catch (error) {
      process.send({ why: String(error?.message ?? error).split("\n")[0] });
    }
  });
  process.send({ ready: tf.version_core });
}

function start(backend, threads) {
  const child = fork(fileURLToPath(import.meta.url), ["--serve", backend], {
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    env: {
      ...process.env,
      ESPALIER_THREADS: threads,
      OMP_NUM_THREADS: threads,
      TF_NUM_INTRAOP_THREADS: threads,
      TF_CPP_MIN_LOG_LEVEL: "2",
    },
  });
  let errors = "";
  child.stderr.on("data", (chunk) => {
    errors = (errors + chunk).slice(-2000);
  });
  const next = () =>
    new Promise((resolve) => {
      const ended = () =>
        resolve({
          why:
            errors
              .trim()
              .split("\n")
              .find((line) => /error/i.test(line)) ?? "it ended",
        });
      child.once("exit", ended);
      child.once("message", (message) => {
        child.off("exit", ended);
        resolve(message);
      });
    });
  return { backend, child, next };
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function cell(times, why) {
  if (times.length === 0) return why ? "no" : "";
  const value = median(times);
  return `${value.toPrecision(3)} ms`;
}

async function compare({ threads, rounds, window, only }) {
  const workers = [];
  for (const backend of BACKENDS) {
    const worker = start(backend, threads);
    const { why } = await worker.next();
    if (why === undefined) workers.push(worker);
    else console.error(`${backend} is left out: ${why}`);
  }
  console.log(`| | ${workers.map(({ backend }) => backend).join(" | ")} |`);
  console.log(`| --- | ${workers.map(() => "---:").join(" | ")} |`);
  for (const [index, { name }] of CASES.entries()) {
    if (only !== undefined && Number(only) !== index) continue;
    const found = workers.map(() => ({ times: [], why: undefined }));
    for (let round = 0; round < rounds; round++) {
      for (const [position, { child, next, backend }] of workers.entries()) {
        const entry = found[position];
        if (entry.why !== undefined || entry.times[0] > SLOW_MS) continue;
        child.send({ index, window });
        const { milliseconds, why } = await next();
        if (why === undefined) entry.times.push(milliseconds);
        else {
          entry.why = why;
          console.error(`${backend}, ${name}: ${why}`);
        }
      }
    }
    console.log(`| ${name} | ${found.map(({ times, why }) => cell(times, why)).join(" | ")} |`);
  }
  for (const { child } of workers) child.kill();
}

const { values } = parseArgs({
  options: {
    serve: { type: "string" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "3" },
    window: { type: "string", default: "80" },
    case: { type: "string" },
  },
});
if (values.serve) await serve(values.serve);
else {
  const { threads, rounds, window, case: only } = values;
  await compare({ threads, rounds: Number(rounds), window: Number(window), only });
}
