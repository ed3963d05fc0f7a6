// One model in bfloat16 on this device, ours beside the peers: the same weights and batches, losses compared first, then
// timed in turns. `node beside-peers.mjs DEVICE SIZE FOLDER`
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { startLineProcess } from "../harness/line-process.mjs";
import { flopsOf, stepProducts } from "../harness/products.mjs";
import { median } from "../harness/statistics.mjs";
import { precision, sizeOf } from "./sizes.mjs";

const [device, name, work] = process.argv.slice(2);
const benchmarks = dirname(dirname(fileURLToPath(import.meta.url)));
const python = process.env.PYTHON ?? "python3";
const size = sizeOf(name, device);
const folder = join(work, name);
const windows = 3;
const windowSeconds = device === "cpu" ? 0.2 : 2;
/** bfloat16 rounds by 2^-8; the losses of a fresh model are near the logarithm of the vocabulary. */
const lossTolerance = 2e-2;

const prepared = spawnSync(
  process.execPath,
  [join(benchmarks, "prepare-model.mjs"), folder, JSON.stringify(size)],
  {
    encoding: "utf8",
  },
);
if (prepared.status !== 0)
  throw new Error(`weights and batches: ${prepared.stderr.trim().split("\n").at(-1)}`);

const peer = (kind) => () =>
  startLineProcess(python, [join(benchmarks, "peers/peer.py"), "--kind", kind, "--device", device]);
const participants = [
  {
    name: "Espalier",
    start: () => startLineProcess(process.execPath, [join(benchmarks, "ours.mjs"), "--backend", "libtorch"]),
  },
  { name: "Hugging Face", start: peer("huggingface") },
  { name: "hand-written PyTorch", start: peer("handwritten") },
];
const request = {
  folder,
  batches: join(folder, "batches.json"),
  precision,
  dropout: 0,
  learningRate: 1e-4,
  weightDecay: 0.01,
  clip: 1,
  seed: size.seed,
};
const running = [];
const absent = [];
try {
  for (const { name: who, start } of participants) {
    const process = start();
    try {
      const told = await process.ask({ do: "open", ...request });
      const { loss } = await process.ask({ do: "loss" });
      // Kernels are chosen and memory is taken in the first steps.
      await process.ask({ do: "train", steps: 3 });
      const { seconds } = await process.ask({ do: "train", steps: 3 });
      const steps = Math.max(2, Math.min(100, Math.round(windowSeconds / median(seconds))));
      running.push({ who, process, loss, steps, version: told.version, windows: [], peakBytes: null });
    } catch (error) {
      absent.push({ who, why: error.message });
      await process.close();
    }
  }
  for (let window = 0; window < windows; window++) {
    for (const each of running) {
      const { seconds, peakBytes } = await each.process.ask({ do: "train", steps: each.steps });
      each.windows.push(seconds.reduce((sum, value) => sum + value, 0) / seconds.length);
      each.peakBytes = peakBytes;
    }
  }
} finally {
  for (const { process } of running) await process.close();
  rmSync(folder, { recursive: true, force: true });
}
const flopsPerStep = flopsOf(stepProducts(size, precision));
const results = running.map(({ who, version, loss, peakBytes, windows: seconds }) => ({
  who,
  version,
  loss,
  peakBytes,
  stepSeconds: median(seconds),
  tokensPerSecond: (size.batch * size.sequence) / median(seconds),
  flopsPerSecond: flopsPerStep / median(seconds),
}));
const ours = results.find(({ who }) => who === "Espalier");
const failures = [];
if (ours === undefined) failures.push(`Espalier: ${absent.find(({ who }) => who === "Espalier")?.why}`);
for (const { who, loss } of results)
  if (ours !== undefined && !(Math.abs(loss - ours.loss) <= lossTolerance))
    failures.push(`${who} has a loss of ${loss}, Espalier of ${ours.loss}: they do not compute the same`);
for (const failure of failures) console.error(`error: ${failure}`);
console.log(JSON.stringify({ size, precision, flopsPerStep, results, absent, failures }));
process.exitCode = failures.length === 0 ? 0 : 1;
