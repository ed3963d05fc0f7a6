// What tracking costs a training step: one process trains, and by turns nothing follows it, or a delivery to a server that is
// dead, slow, or live, each from a folder of its own. `node benchmarks/tracking.mjs --help`
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadBackend } from "@espalier/backends";
import { stream } from "@espalier/core";
import { causalLm } from "@espalier/data";
import { gpt2 } from "@espalier/models";
import { uniqueDepth } from "@espalier/plugin-apollo-lvps";
import { interpolatedLayers, interpolationExpander } from "@espalier/plugin-interpolation";
import { scratch } from "@espalier/plugin-scratch";
import { BackgroundDelivery, RunJournal } from "@espalier/tracking";
import { adamWOptimizer, learningRateSchedule, noDecay, train } from "@espalier/trainer";
import { median } from "./harness/statistics.mjs";

const usage = `node benchmarks/tracking.mjs [options]

  --threads N       of the training (default: 1)
  --rounds N        turns of each kind (default: 8)
  --seconds N       how long a turn is (default: 2)
  --kinds LIST      of dead,slow,live (default: all; slow and live want a server)
  --python FILE     of a virtual environment with MLflow (default: the tests' .venv-mlflow)
  --json            one JSON object
`;
const root = fileURLToPath(new URL("..", import.meta.url));
const { values } = parseArgs({
  options: {
    threads: { type: "string", default: "1" },
    rounds: { type: "string", default: "8" },
    seconds: { type: "string", default: "2" },
    kinds: { type: "string", default: "dead,slow,live" },
    python: { type: "string", default: join(root, ".venv-mlflow", "bin", "python") },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(usage);
  process.exit(0);
}
const [threads, rounds, seconds] = [values.threads, values.rounds, values.seconds].map(Number);
const kinds = values.kinds.split(",");
/** Each journal line becomes so many metrics. */
const metricsPerStep = 10;
/** A turn's first steps: the journal of the turn before is still being closed, the delivery just starts. */
const leftOutSeconds = 0.7;

const folder = mkdtempSync(join(tmpdir(), "espalier-tracking-bench-"));
const ended = [];
try {
  const addresses = await startServers();
  const result = await measure(addresses);
  if (values.json) console.log(JSON.stringify(result, undefined, 2));
  else print(result);
} finally {
  for (const end of ended.reverse()) await end();
  rmSync(folder, { recursive: true, force: true });
}

async function startServers() {
  const dead = `http://127.0.0.1:${await freePort()}`;
  if (!kinds.includes("slow") && !kinds.includes("live")) return { dead };
  if (!existsSync(values.python)) throw new Error(`no MLflow at ${values.python}; --kinds dead needs none`);
  const port = await freePort();
  const log = openSync(join(folder, "server.log"), "w");
  const store = ["--backend-store-uri", `sqlite:///${join(folder, "mlflow.db")}`];
  const files = ["--artifacts-destination", join(folder, "artifacts")];
  const place = ["--host", "127.0.0.1", "--port", String(port), "--workers", "1"];
  const server = spawn(values.python, ["-m", "mlflow", "server", ...store, ...files, ...place], {
    cwd: folder,
    detached: true,
    stdio: ["ignore", log, log],
    env: { ...process.env, MLFLOW_SERVER_ENABLE_JOB_EXECUTION: "false", MLFLOW_DISABLE_TELEMETRY: "true" },
  });
  ended.push(async () => process.kill(-server.pid));
  const live = `http://127.0.0.1:${port}`;
  while (
    !(await fetch(`${live}/health`).then(
      ({ ok }) => ok,
      () => false,
    ))
  ) {
    if (server.exitCode !== null) throw new Error("the MLflow server ended by itself");
    await wait(200);
  }
  const proxy = spawn(
    process.execPath,
    [join(root, "benchmarks", "harness", "slow-proxy.mjs"), live, "2000"],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  ended.push(async () => proxy.kill());
  const slow = await new Promise((resolve) =>
    proxy.stdout.once("data", (text) => resolve(String(text).trim())),
  );
  return { dead, slow, live };
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function measure(addresses) {
  const engine = await loadBackend({ backend: "libtorch", threads });
  // Nothing, a kind, nothing, a kind, …: each is compared with what is on both sides of it.
  const turns = ["none"];
  for (let round = 0; round < rounds; round++)
    for (let kind = 0; kind < kinds.length; kind++) turns.push(kinds[(round + kind) % kinds.length], "none");
  const journals = [];
  for (let turn = 0; turn < turns.length; turn++)
    journals.push(await RunJournal.open(join(folder, `turn-${turn}`)));
  const results = turns.map((kind) => ({ kind, steps: 0, seconds: 0, journal: 0, core: 0 }));
  const starts = [];
  const stop = new AbortController();
  const endings = [];
  let turn = -1;
  let began = 0;
  let counted = 0;
  let delivery = null;
  let coreBefore = 0;
  let inJournal = 0;
  let journalBefore = 0;

  const begin = (at) => {
    endings.push(journals[turn]?.close(), delivery?.finish("FINISHED", { withinSeconds: 0.1 }));
    turn++;
    if (turn === turns.length) return stop.abort();
    delivery = null;
    const kind = turns[turn];
    if (kind !== "none") {
      delivery = BackgroundDelivery.start({
        folder: join(folder, `turn-${turn}`),
        connection: { trackingUri: addresses[kind] },
        experiment: "benchmark",
        run: { id: `turn-${turn}`, name: `${kind} ${turn}`, startTime: Date.now(), definition: { kind } },
        systemMetricsEverySeconds: 10,
      });
      starts.push(performance.now() - at);
    }
    began = performance.now();
    counted = 0;
  };

  const sequenceLength = 64;
  const config = {
    ...{ family: "gpt2", depth: 3, hiddenSize: 64, attentionHeads: 4, intermediateSize: 256, vocabSize: 256 },
    ...{
      maxPositions: sequenceLength,
      dropout: 0,
      layerNormEpsilon: 1e-5,
      initializerRange: 0.02,
      tokenTypes: 0,
    },
  };
  const random = stream(42);
  const batch = (size) => Int32Array.from({ length: size * sequenceLength }, (_, at) => (at * 7919) % 256);
  const budget = { unit: "steps", amount: 1e9, steps: 1e9 };
  try {
    await train({
      family: gpt2,
      config,
      strategies: {
        schedule: scratch(),
        sampler: uniqueDepth(),
        expander: interpolationExpander({ mode: "nearest", moments: "carry" }),
        sharing: interpolatedLayers,
        learningRate: learningRateSchedule({ warmupRatio: 0 }, budget, noDecay),
        optimizer: adamWOptimizer({
          learningRate: 1e-3,
          weightDecay: 0,
          beta1: 0.9,
          beta2: 0.999,
          epsilon: 1e-8,
        }),
        objective: causalLm(),
      },
      data: {
        sequenceLength,
        fingerprint: "numbers",
        count: () => 1000,
        trainingBatch: (_, size) => batch(size),
        validationBatch: (_, size) => batch(size),
      },
      seed: 42,
      random,
      budget,
      batchSize: 4,
      gradientAccumulation: 1,
      gradientClipNorm: 1,
      evaluation: { every: 0, batches: 1 },
      checkpoints: { every: 0, keep: 1 },
      folder: join(folder, "trained"),
      journal: {
        step(line) {
          const before = performance.now();
          journals[turn]?.step(line);
          inJournal += performance.now() - before;
        },
        event: () => undefined,
        flush: async () => undefined,
      },
      definitionHash: "benchmark",
      resume: false,
      signal: stop.signal,
      onProgress({ step }) {
        const now = performance.now();
        if (step < 100) return;
        if (turn === -1) return begin(now);
        const since = (now - began) / 1000;
        if (since < leftOutSeconds) return;
        if (counted === 0) {
          counted = now;
          coreBefore = coreSeconds(delivery?.pid);
          journalBefore = inJournal;
        } else {
          results[turn].steps++;
          results[turn].seconds = (now - counted) / 1000;
        }
        if (since < leftOutSeconds + seconds) return;
        results[turn].core = (coreSeconds(delivery?.pid) - coreBefore) / results[turn].seconds;
        results[turn].journal = (inJournal - journalBefore) / 1000 / results[turn].seconds;
        begin(now);
      },
    });
  } finally {
    await Promise.all(endings);
  }
  const per = results.map((each) => (1000 * each.seconds) / each.steps);
  return {
    machine: `${cpus()[0]?.model}, ${cpus().length} cores`,
    engine: `${engine.name} ${engine.version}, threads ${threads}`,
    stepMilliseconds: median(per.filter((_, at) => turns[at] === "none")),
    metricsPerSecond: (1000 * metricsPerStep) / median(per),
    startMilliseconds: median(starts),
    // In the training's own process: the journal, which is written with or without a server.
    journalShare: median(results.map(({ journal }) => journal)),
    // Of one core, by the delivery's process: no step can pay more, and one that leaves a core alone pays nothing.
    coreShare: Object.fromEntries(
      kinds.map((kind) => [
        kind,
        spread(results.filter((each) => each.kind === kind).map(({ core }) => core)),
      ]),
    ),
    // Two turns of nothing beside each other differ by so much: what is smaller than this is not seen.
    noise: spread(ratios("none", (at) => per[at] / per[at + 2])),
    cost: Object.fromEntries(
      kinds.map((kind) => [kind, spread(ratios(kind, (at) => (2 * per[at]) / (per[at - 1] + per[at + 1])))]),
    ),
  };

  function ratios(kind, ratio) {
    return turns.flatMap((each, at) => {
      const value = each === kind ? ratio(at) - 1 : Number.NaN;
      return Number.isFinite(value) ? [value] : [];
    });
  }
}

/** Processor seconds that a process has used, where Linux tells; 0 of none. */
function coreSeconds(pid) {
  if (pid === undefined || !existsSync(`/proc/${pid}/stat`)) return 0;
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  // In hundredths of a second, on every Linux.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Median and the middle half. */
function spread(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  return { median: median(numbers), from: at(0.25), to: at(0.75), turns: numbers.length };
}

function print(result) {
  const { machine, engine, stepMilliseconds, metricsPerSecond, startMilliseconds, noise, cost } = result;
  const percent = (share) => `${share < 0 ? "−" : ""}${Math.abs(100 * share).toFixed(2)} %`;
  const row = ({ median: middle, from, to }) =>
    `${percent(middle).padStart(8)} ${`(${percent(from)} … ${percent(to)})`.padEnd(22)}`;
  console.log(`${machine}; ${engine}`);
  console.log(`a step: ${stepMilliseconds.toFixed(2)} ms, ${Math.round(metricsPerSecond)} metrics a second`);
  console.log("server   longer steps                     of a core, by the delivery's process");
  for (const [kind, ratio] of Object.entries(cost))
    console.log(`${kind.padEnd(6)} ${row(ratio)} ${row(result.coreShare[kind])}`);
  console.log(`none   ${row(noise)} between two turns without any: what is smaller is not seen`);
  console.log(`the journal, in the training itself: ${percent(result.journalShare)} of the time`);
  console.log(`starting a delivery: ${startMilliseconds.toFixed(1)} ms, once a run`);
}
