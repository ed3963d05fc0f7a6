// `npm start`: makes the clone runnable, sets up the best backend, trains the quickstart's definitions one after another
// and ends with their comparison. What is finished is kept, what was interrupted goes on; `npm start -- --fresh` begins
// anew. Ctrl-C lets the run write a checkpoint and leaves; a second one leaves at once.
import { spawn } from "node:child_process";
import { existsSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { bootstrap, runMain } from "./bootstrap.mjs";
import { root } from "./programs.mjs";

const NAMES = ["scratch", "apollo", "stackbert"];
const CLI = join(root, "packages", "cli", "bin", "espalier.js");
const PLOT = join(root, "runs", "quickstart.svg");

const runs = NAMES.map((name) => ({
  name,
  definition: join(root, "experiments", "quickstart", `${name}.yaml`),
  folder: join(root, "runs", `quickstart-${name}`),
}));

/** A path as one types it at the repository's root. */
const short = (path) => relative(process.cwd(), path) || ".";
const say = (line) => console.error(line);

/** How far a run's folder is: `none`, `started` (it can go on) or `finished`. */
function stateOf(folder) {
  if (!existsSync(join(folder, "lock.json"))) return "none";
  const events = readText(join(folder, "events.jsonl")).split("\n");
  return events.some((line) => eventOf(line) === "end") ? "finished" : "started";
}

function eventOf(line) {
  try {
    return JSON.parse(line).event;
  } catch {
    return null; // empty, or torn by a kill
  }
}

function readText(file) {
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}

/** Makes way for a new run: on request the old one is removed, otherwise one of another definition is set aside. */
function clear({ name, definition, folder }, fresh) {
  if (!existsSync(folder)) return;
  if (fresh || stateOf(folder) === "none") {
    rmSync(folder, { recursive: true, force: true });
    return;
  }
  if (readText(join(folder, "definition.yaml")) === readText(definition)) return;
  let aside = 1;
  while (existsSync(`${folder}.old-${aside}`)) aside++;
  renameSync(folder, `${folder}.old-${aside}`);
  say(`${name}: the definition has changed, its earlier run is now ${short(folder)}.old-${aside}`);
}

let child = null;
let lastSignal = 0;

/**
 * Runs the command line, its output shown. It gets a process group of its own: Ctrl-C in a terminal reaches a whole
 * group, npm passes it on once more, and the run would take the second for a wish to leave without a checkpoint.
 */
function espalier(...given) {
  return new Promise((resolve, reject) => {
    child = spawn(process.execPath, [CLI, ...given], { cwd: root, stdio: "inherit", detached: true });
    child.on("error", reject);
    child.on("close", (code, signal) => {
      child = null;
      resolve(code ?? (signal === "SIGINT" ? 130 : 1));
    });
  });
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    if (child === null) process.exit(130);
    const now = performance.now();
    // the same key press, passed on by npm
    if (now - lastSignal < 300) return;
    lastSignal = now;
    child.kill(signal);
  });
}

// a run is not left behind alone, whatever ends this process
process.on("exit", () => child?.kill("SIGTERM"));

/** @throws an error with exit code 2 for anything but `--fresh` */
function readOptions() {
  try {
    return parseArgs({ options: { fresh: { type: "boolean", default: false } } }).values;
  } catch (error) {
    const message = `${error.message}\nusage: npm start [-- --fresh]`;
    throw Object.assign(new Error(message), { code: "ESPALIER_START_OPTIONS", exitCode: 2 });
  }
}

async function start() {
  const { fresh } = readOptions();
  await bootstrap(say);
  const { setupBackend } = await import("../packages/backends/dist/index.js");
  const backend = await setupBackend(undefined, say);
  say(`backend ${backend.name}: ${backend.version} (${backend.why})`);

  for (const run of runs) {
    clear(run, fresh);
    const state = stateOf(run.folder);
    if (state === "finished") {
      say(`${run.name}: finished before (${short(run.folder)}); \`npm start -- --fresh\` trains it again`);
      continue;
    }
    say(`\n${run.name}: ${state === "started" ? "going on with" : "training"} ${short(run.definition)}`);
    const resume = state === "started" ? ["--resume"] : [];
    // where a better one could not be set up, `auto` is not to try it again in every run
    const chosen = backend.failures.length > 0 ? ["--backend", backend.name] : [];
    const given = [run.definition, "--out", run.folder, ...chosen, ...resume];
    const code = await espalier(
      "run",
      ...given.map((path) => (path.startsWith(root) ? relative(root, path) : path)),
    );
    if (code !== 0 || stateOf(run.folder) !== "finished") {
      say(`${run.name} is not finished; \`npm start\` goes on with it`);
      return code || 1;
    }
  }
  say("");
  const folders = runs.map((run) => relative(root, run.folder));
  const code = await espalier("compare", ...folders, "--plot", relative(root, PLOT));
  if (code === 0) {
    say(`\nThe plot of loss against FLOPs: ${short(PLOT)}`);
    say(
      "Next: npx espalier ui shows these runs in MLflow; npx espalier plan experiments/quickstart/apollo.yaml; or a definition of your own (README.md)",
    );
  }
  return code;
}

await runMain(start);
