// Runs every step of the GPU benchmark, each with a time limit of its own; one that fails or is too slow does not stop the
// others. Writes results.json, results.md, log.txt and loss.svg into a folder. Started by gpu.sh.
import { spawn } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describeResults } from "./describe.mjs";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const cli = join(root, "packages/cli/bin/espalier.js");
const [out] = process.argv.slice(2);
const device = process.env.DEVICE ?? "cuda:0";
const python = process.env.PYTHON ?? "python3";
/** Everything together, unpacking included: a machine that is lent has its limit, and the rest is room for slow starts. */
const secondsForAll = Number(process.env.SECONDS_FOR_ALL ?? 460);
const work = join(root, ".work");
mkdirSync(work, { recursive: true });
const log = join(out, "log.txt");
writeFileSync(log, "");

const env = {
  ...process.env,
  ESPALIER_TORCH: await pythonPath(),
  ESPALIER_BACKEND: "libtorch",
  ESPALIER_DEVICE: device,
  ESPALIER_HOME: root,
  PYTHON: python,
  HF_HUB_OFFLINE: "1",
  MLFLOW_TRACKING_URI: "",
};
const isTried = device === "cpu";
const script = (name, ...given) => [process.execPath, [join(root, "benchmarks/gpu", name), ...given]];
const espalier = (...given) => [process.execPath, [cli, ...given]];
const quickstart = (name) => join(root, `experiments/quickstart/${name}.yaml`);
const realRun = isTried
  ? [
      "training.steps=4",
      "evaluation.every=2",
      "data.sequenceLength=32",
      "model.depth=4",
      "growth.schedule.depths=[1,2,4]",
    ]
  : ["training.steps=1200", "evaluation.every=100"];

/** Name, limit in seconds, command; `json`: its output is its result. */
const steps = [
  ["setup", 200, espalier("setup", "libtorch")],
  ["doctor", 60, espalier("doctor", "--json"), { json: true }],
  ["matrixRate", 40, [python, [join(root, "benchmarks/gpu/matrix_rate.py"), device]], { json: true }],
  ["numerics", 60, script("numerics.mjs", device), { json: true }],
  ["synchronizations", 60, script("synchronizations.mjs", device), { json: true }],
  ["bertBase128", 70, script("beside-peers.mjs", device, "bertBase128", work), { json: true }],
  ["bertBase512", 70, script("beside-peers.mjs", device, "bertBase512", work), { json: true }],
  ["gpt2Base1024", 70, script("beside-peers.mjs", device, "gpt2Base1024", work), { json: true }],
  ["apolloStages", 70, script("stages.mjs", device), { json: true }],
  ["scratch", 60, run("scratch"), { json: true }],
  ["apollo", 60, run("apollo"), { json: true }],
  [
    "comparison",
    20,
    espalier(
      "compare",
      join(work, "scratch"),
      join(work, "apollo"),
      "--plot",
      join(out, "loss.svg"),
      "--json",
    ),
    { json: true },
  ],
];

function run(name) {
  const overrides =
    name === "apollo" || !isTried ? realRun : realRun.filter((each) => !each.startsWith("growth"));
  return espalier("run", quickstart(name), ...overrides, "--out", join(work, name), "--json");
}

const began = performance.now();
const elapsed = () => (performance.now() - began) / 1000;
const results = { device, started: new Date().toISOString(), steps: [], values: {} };
const only = process.env.ONLY?.split(",");
for (const [name, limit, command, { json = false } = {}] of steps) {
  if (only !== undefined && !only.includes(name)) continue;
  const seconds = Math.min(limit, secondsForAll - elapsed());
  const step =
    seconds < 5 ? { ok: false, seconds: 0, why: "no time was left" } : await start(name, command, seconds);
  if (json && step.ok) {
    try {
      results.values[name] = JSON.parse(step.output);
    } catch {
      Object.assign(step, { ok: false, why: "its output is not JSON" });
    }
  }
  const { output, ...told } = step;
  results.steps.push({ name, ...told });
  console.log(
    `${step.ok ? "ok     " : "FAILED "} ${name.padEnd(18)} ${step.seconds.toFixed(1)} s${step.ok ? "" : `: ${step.why}`}`,
  );
  // Written after every step: what is there stays if the whole is ended from outside.
  writeFileSync(join(out, "results.json"), `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(join(out, "results.md"), describeResults(results));
}
const failed = results.steps.filter((step) => !step.ok).map((step) => step.name);
console.log(readFileSync(join(out, "results.md"), "utf8"));
console.log(
  `${results.steps.length - failed.length} of ${results.steps.length} steps in ${elapsed().toFixed(0)} s; everything is in ${out}`,
);
process.exitCode = failed.length === 0 ? 0 : 1;

/** Runs a command to its end or its limit; what it says goes to the log. */
function start(name, [command, given], seconds) {
  return new Promise((resolve) => {
    const before = performance.now();
    appendFileSync(log, `\n===== ${name}: ${[command, ...given].join(" ")}\n`);
    const child = spawn(command, given, {
      env,
      cwd: work,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let output = "";
    let said = "";
    let isLate = false;
    const keep = (text) => appendFileSync(log, text);
    child.stdout.on("data", (text) => {
      output += text;
      keep(text);
    });
    child.stderr.on("data", (text) => {
      said = (said + text).slice(-4000);
      keep(text);
    });
    const timer = setTimeout(() => {
      isLate = true;
      // Its whole group: the peers are children of a step.
      process.kill(-child.pid, "SIGKILL");
    }, seconds * 1000);
    const end = (ok, why) => {
      clearTimeout(timer);
      resolve({ ok, seconds: (performance.now() - before) / 1000, why, output });
    };
    child.on("error", (error) => end(false, error.message));
    child.on("close", (code, signal) => {
      if (isLate) return end(false, `longer than ${seconds.toFixed(0)} s`);
      const last =
        said
          .trim()
          .split("\n")
          .filter((line) => /error|Error/.test(line))
          .at(-1) ?? said.trim().split("\n").at(-1);
      end(code === 0, code === 0 ? undefined : `${signal ?? `exit code ${code}`}: ${last ?? ""}`);
    });
  });
}

/** The executable behind a command's name, asked of itself: a virtual environment's Python is a link that must stay one. */
async function pythonPath() {
  if (existsSync(python)) return python;
  for (const folder of (process.env.PATH ?? "").split(":"))
    if (folder !== "" && existsSync(join(folder, python))) return join(folder, python);
  return python;
}
