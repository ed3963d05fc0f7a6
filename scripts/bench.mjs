// `npm run bench`: training steps of Espalier beside the same model trained by Hugging Face transformers and by PyTorch
// written by hand, in turns in one run. Prints a table; `-- --help` lists the options.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { casesOf, peers } from "../benchmarks/harness/cases.mjs";
import { coresInUse } from "../benchmarks/harness/machine.mjs";
import { measureCase } from "../benchmarks/harness/measure-case.mjs";
import { participantsOf } from "../benchmarks/harness/participants.mjs";
import { findReferenceEnvironment } from "../benchmarks/reference-environment.mjs";
import { allTables } from "../benchmarks/tables.mjs";
import { bootstrap, runMain } from "./bootstrap.mjs";
import { root, runProgram } from "./programs.mjs";

const usage = `npm run bench -- [options]

  --only TEXT[,TEXT…]      cases whose key holds one of these texts, for instance bert-12x256/fp32
  --precision fp32,bf16    default: both
  --dropout 0,0.1          default: both
  --peers ${Object.keys(peers).join(",")}   default: hf,manual
  --engines libtorch,…     ours; the first takes part in every comparison (default: libtorch)
  --windows N              windows of each participant (default: 7; --quick: 3)
  --window-seconds N       how long a window lasts (default: 4; --quick: 2)
  --threads N              of every participant (default: the cores of this machine)
  --json FILE              writes the figures, and keeps those of other cases that are in it already
  --again                  measures what is in that file already once more
  --quick                  the two models of the speed target, float32, no dropout, short
  --list                   names the cases and ends
`;

const separated = (text) => text.split(",").filter((part) => part !== "");
const { values } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    precision: { type: "string" },
    dropout: { type: "string" },
    peers: { type: "string", default: "hf,manual" },
    engines: { type: "string", default: "libtorch" },
    windows: { type: "string" },
    "window-seconds": { type: "string" },
    threads: { type: "string", default: String(availableParallelism()) },
    json: { type: "string" },
    again: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

// More of a core than this in other hands, and a figure is not to be believed.
const busyCores = 0.1;

function chosenCases() {
  const only = separated(values.only);
  const cases = casesOf({
    precisions: separated(values.precision ?? (values.quick ? "fp32" : "fp32,bf16")),
    dropouts: separated(values.dropout ?? (values.quick ? "0" : "0,0.1")).map(Number),
    only:
      only.length === 0 && values.quick
        ? ["12x256/"].flatMap((size) => [`bert-${size}`, `gpt2-${size}`])
        : only,
  });
  if (cases.length === 0) throw usageError("no case has such a key; --list names them");
  return cases;
}

function usageError(message) {
  return Object.assign(new Error(message), { code: "ESPALIER_BENCH_USAGE", exitCode: 2 });
}

function positive(name, text) {
  const number = Number(text);
  if (!(number > 0)) throw usageError(`--${name} must be a number above 0, not ${text}`);
  return number;
}

async function prepareModel(measured) {
  const folder = join(root, ".espalier", "bench", measured.name);
  const content = JSON.stringify(measured.model);
  const note = join(folder, "model.json");
  if (existsSync(note) && readFileSync(note, "utf8") === content) return folder;
  mkdirSync(dirname(folder), { recursive: true });
  const script = join(root, "benchmarks", "prepare-model.mjs");
  const { code, output } = await runProgram(process.execPath, [script, folder, content]);
  if (code !== 0) throw new Error(`the model of ${measured.key} cannot be written:\n${output.trim()}`);
  writeFileSync(note, content);
  return folder;
}

function describeMachine(threads, load) {
  const git = spawnSync("git", ["rev-parse", "--short", "HEAD"], { cwd: root, encoding: "utf8" });
  return {
    processor: cpus()[0]?.model ?? "unknown processor",
    cores: cpus().length,
    memoryBytes: totalmem(),
    threads,
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    commit: git.status === 0 ? git.stdout.trim() : null,
    loadAtStart: load,
  };
}

function readReport(file) {
  if (file === null || !existsSync(file)) return { cases: {} };
  return JSON.parse(readFileSync(file, "utf8"));
}

await runMain(async () => {
  if (values.help) return console.log(usage);
  const cases = chosenCases();
  if (values.list) return console.log(cases.map(({ key }) => key).join("\n"));
  const threads = positive("threads", values.threads);
  const windows = Math.round(positive("windows", values.windows ?? (values.quick ? "3" : "7")));
  const windowSeconds = positive("window-seconds", values["window-seconds"] ?? (values.quick ? "2" : "4"));
  const chosen = separated(values.peers);
  for (const key of chosen)
    if (!(key in peers)) throw usageError(`--peers: "${key}" is none of ${Object.keys(peers).join(", ")}`);
  await bootstrap();

  const engines = separated(values.engines);
  const { setupBackend } = await import("../packages/backends/dist/index.js");
  await setupBackend(engines[0], console.error);
  const reference = findReferenceEnvironment(root);
  const isAlone = "missing" in reference;
  if (isAlone) console.error(`no peers: ${reference.missing}`);
  const load = await coresInUse();
  if (load !== null && load.cores > busyCores)
    console.error(
      `warning: ${load.cores.toFixed(2)} cores are in use by others; ratios may hold, times do not`,
    );

  const file = values.json === undefined ? null : resolve(values.json);
  const report = readReport(file);
  const done = [];
  for (const measured of cases) {
    if (report.cases[measured.key] !== undefined && !values.again) {
      console.error(`${measured.key}: is in ${values.json} already`);
      done.push(report.cases[measured.key]);
      continue;
    }
    console.error(measured.key);
    const result = await measureCase({
      measured,
      participants: participantsOf(
        {
          root,
          python: isAlone ? null : reference.python,
          chosen,
          engines,
          threads,
        },
        measured,
      ),
      folder: await prepareModel(measured),
      windows,
      windowSeconds,
      say: console.error,
    });
    warnOfOthers(result);
    warnOfPrecision(result, report.cases[measured.key.replace("/bf16/", "/fp32/")]);
    const noted = { ...result, machine: describeMachine(threads, load), date: new Date().toISOString() };
    report.cases[measured.key] = noted;
    done.push(noted);
    if (file === null) continue;
    // After every case: a run that is broken off goes on where it was.
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
  }
  console.log(allTables(done));
});

function warnOfOthers({ key, results }) {
  for (const { name, othersCores, stolenCores, countedWindows, disturbedWindows } of results) {
    if (!(othersCores + stolenCores > busyCores)) continue;
    console.error(
      `  warning: ${key}, ${name}: others had up to ${(othersCores + stolenCores).toFixed(2)} cores in the ${countedWindows} windows that count (${disturbedWindows} were disturbed)`,
    );
  }
}

/** An engine that ignores the precision it is asked for gives float32's loss to the last digit. */
function warnOfPrecision({ key, precision, results: [ours] }, inFloat32) {
  if (precision !== "bf16" || ours.loss !== inFloat32?.results[0].loss) return;
  console.error(`  warning: ${key}: our loss is float32's to the last digit; nothing was computed in bf16`);
}
