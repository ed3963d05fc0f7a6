// `npm run bench`: a training step of Espalier beside the same model trained by Hugging Face transformers on PyTorch, taken
// in turns in one run. Prints a table; `-- --json FILE` keeps the figures; `-- --pairs N` sets how many turns.
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { referenceEnvironment } from "../benchmarks/reference-environment.mjs";
import { bootstrap } from "./bootstrap.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cli = join(root, "packages/cli/bin/espalier.js");
const { values } = parseArgs({
  options: {
    json: { type: "string" },
    pairs: { type: "string", default: "3" },
    threads: { type: "string", default: String(availableParallelism()) },
    only: { type: "string" },
    all: { type: "boolean", default: false },
  },
});
const pairs = Number(values.pairs);
const threads = Number(values.threads);

// name, definition, and the peer's arguments for the same model; the last is small enough for 100 steps and for wasm, and
// those marked so are left out unless `--all` is given
const small = { depth: 12, heads: 4, sequence: 128 };
const cases = [
  ["bert 12×256", "bert-12x256.yaml", { family: "bert", hidden: 256, vocabulary: 8192, batch: 32, ...small }],
  [
    "gpt2 12×256",
    "gpt2-12x256.yaml",
    { family: "gpt2", hidden: 256, vocabulary: 8192, batch: 32, ...small },
    "all",
  ],
  ["gpt2 12×64", "gpt2-12x64.yaml", { family: "gpt2", hidden: 64, vocabulary: 4096, batch: 16, ...small }],
];

function espalier(args) {
  const done = spawnSync(process.execPath, [cli, ...args, "--json"], { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`espalier ${args.join(" ")} failed:\n${done.stderr.trim()}`);
  return JSON.parse(done.stdout);
}

function peer(python, settings) {
  const args = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, String(value)]);
  const script = join(root, "benchmarks/peers/huggingface.py");
  const done = spawnSync(python, [script, ...args, "--threads", String(threads)], {
    encoding: "utf8",
    env: { ...process.env, HF_HUB_OFFLINE: "1", TRANSFORMERS_VERBOSITY: "error" },
  });
  if (done.status !== 0) throw new Error(`the peer failed:\n${done.stderr.trim().split("\n").at(-1)}`);
  return JSON.parse(done.stdout.trim().split("\n").at(-1));
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const round = (value, digits = 0) =>
  value == null ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });
const gigabytes = (bytes) => (bytes == null ? "–" : `${(bytes / 1e9).toFixed(2)} GB`);

function printTable(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const cell = (text, column) => (column < 2 ? text.padEnd(widths[column]) : text.padStart(widths[column]));
  for (const [index, row] of rows.entries()) {
    console.log(row.map(cell).join("  "));
    if (index === 0) console.log(widths.map((width) => "─".repeat(width)).join("  "));
  }
}

/** Every engine and the peer, in turns, so that a machine that speeds up or slows down does so for all. */
function measure(name, definition, settings, python, engines) {
  const measured = new Map();
  const note = (who, figures) => measured.set(who, [...(measured.get(who) ?? []), figures]);
  for (let pair = 0; pair < pairs; pair++) {
    if (python) note("Hugging Face", peer(python, settings));
    for (const engine of engines) {
      // An engine of last resort is measured once: its figure is an order of magnitude, not a race.
      if (engine === "wasm" && (pair > 0 || settings.hidden > 64)) continue;
      const file = join(root, "benchmarks/definitions", definition);
      // The last turn is long, to see whether anything grows.
      const isLong = engine === "libtorch" && pair === pairs - 1 && settings.hidden <= 64;
      const steps = isLong ? 100 : engine === "wasm" ? 2 : 8;
      const options = ["--backend", engine, "--threads", String(threads), "--steps", String(steps)];
      note(engine, espalier(["bench", file, ...options, "--warmup", "2"]));
    }
    console.error(`${name}: turn ${pair + 1} of ${pairs}`);
  }
  return measured;
}

function summarize(model, measured) {
  const base = measured.get("Hugging Face");
  return [...measured].map(([engine, figures]) => {
    const peakBytes = median(figures.map((at) => at.peakBytes));
    const last = figures.at(-1);
    return {
      model,
      engine,
      tokensPerSecond: median(figures.map((at) => at.tokensPerSecond)),
      // Ratios are taken within a turn, then their median.
      ratioToHuggingFace: base
        ? median(figures.map((at, turn) => at.tokensPerSecond / base[turn].tokensPerSecond))
        : null,
      stepSeconds: median(figures.map((at) => at.stepSeconds)),
      growthSeconds: last.growthSeconds ?? null,
      javascriptShare: last.javascriptShare ?? null,
      peakBytes,
      peakRatio: base ? peakBytes / median(base.map((at) => at.peakBytes)) : null,
      tensorsGrown: last.leakedTensors ?? null,
      bytesGrown: last.leakedBytes ?? null,
    };
  });
}

await bootstrap();
const reference = referenceEnvironment(root);
if ("missing" in reference) console.error(`no peer beside us: ${reference.missing}`);
const engines = espalier(["doctor"])
  .backends.filter((backend) => backend.usable)
  .map((backend) => backend.name);
const results = [];
for (const [name, definition, settings, when] of cases)
  if (values.only ? name.includes(values.only) : values.all || when !== "all")
    results.push(...summarize(name, measure(name, definition, settings, reference.python, engines)));

printTable([
  [
    "model",
    "engine",
    "tokens/s",
    "ratio",
    "step",
    "growth",
    "JavaScript",
    "peak memory",
    "ratio",
    "tensors +",
    "bytes +",
  ],
  ...results.map((at) => [
    at.model,
    at.engine,
    round(at.tokensPerSecond),
    round(at.ratioToHuggingFace, 2),
    `${round(at.stepSeconds * 1000)} ms`,
    at.growthSeconds == null ? "–" : `${round(at.growthSeconds * 1000, 1)} ms`,
    at.javascriptShare == null ? "–" : `${round(at.javascriptShare * 100, 1)} %`,
    gigabytes(at.peakBytes),
    round(at.peakRatio, 2),
    round(at.tensorsGrown),
    round(at.bytesGrown),
  ]),
]);
const processor = cpus()[0]?.model ?? "unknown processor";
console.log(
  `\n${processor}, ${threads} threads, Node ${process.versions.node}, float32, dropout 0, median of ${pairs} turns.`,
);
console.log(
  "growth: half the depth to all of it, moments carried. tensors +, bytes +: alive after 100 more steps (libtorch, 12×64), else after 8.",
);
if (values.json) {
  const file = resolve(values.json);
  mkdirSync(dirname(file), { recursive: true });
  const report = { processor, threads, node: process.versions.node, pairs, results };
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
}
