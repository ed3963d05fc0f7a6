// Makes a fresh clone runnable: installs the npm packages and compiles the TypeScript, each only where something
// changed. Needs Node alone. `node scripts/bootstrap.mjs` does it by itself.
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { root, runNpm, runScript, secondsSince } from "./programs.mjs";

const OLDEST_NODE = [20, 19];

/** A failure that the user can act on; shown without a stack. */
export class BootstrapError extends Error {
  code = "ESPALIER_BOOTSTRAP";
}

/**
 * @param {(line: string) => void} [say] receives a line for each thing that is done
 * @throws {BootstrapError} saying what failed and what to do
 */
export async function bootstrap(say = console.error) {
  await preparePackages(say);
  await compile(say);
}

/** The first half of {@link bootstrap}: everything but compiling. */
export async function preparePackages(say) {
  checkNode();
  await installPackages(say);
  await linkCommands(say);
}

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1])) return;
  throw new BootstrapError(
    `Node ${OLDEST_NODE.join(".")} or newer is needed, this is ${process.versions.node}: nvm install 22`,
  );
}

async function installPackages(say) {
  if (isInstalled()) return;
  const start = performance.now();
  say("installing npm packages …");
  // No package's install script is needed, and npm 11 would not run it.
  const options = ["--ignore-scripts", "--no-audit", "--no-fund"];
  let { code, output } = await runNpm(["ci", ...options]);
  if (code !== 0 && output.includes("EUSAGE")) {
    // A registry that mirrors only this platform's packages makes npm ci doubt the lock file; npm install takes the
    // locked versions all the same, and leaves the lock file alone.
    ({ code, output } = await runNpm(["install", "--no-save", ...options]));
  }
  if (code !== 0) throw new BootstrapError(`npm could not install the packages:\n${tail(output, 12)}`);
  say(`installed npm packages in ${secondsSince(start)}`);
}

/** Whether `node_modules` holds what the lock file names: npm keeps its own record of what it installed. */
function isInstalled() {
  const record = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(record)) return false;
  const wanted = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")).packages;
  const installed = JSON.parse(readFileSync(record, "utf8")).packages;
  return Object.entries(wanted).every(([place, { version, optional, link, peer }]) => {
    if (!place.startsWith("node_modules/")) return true;
    const found = installed[place];
    // a package for another platform is left out by npm
    if (found === undefined) return optional === true || peer === true;
    return link === true ? existsSync(join(root, place)) : found.version === version;
  });
}

/** `npx espalier` works at the root: npm links a workspace's command only where its file was there when it installed. */
async function linkCommands(say) {
  const command = join(
    root,
    "node_modules",
    ".bin",
    process.platform === "win32" ? "espalier.cmd" : "espalier",
  );
  const program = join(root, "packages", "cli", "bin", "espalier.js");
  if (existsSync(command) || !existsSync(program)) return;
  const { code, output } = await runNpm(["rebuild", "@espalier/cli", "--ignore-scripts"]);
  if (code !== 0 || !existsSync(command)) {
    say(`npx espalier is not linked (node packages/cli/bin/espalier.js does the same): ${tail(output, 1)}`);
    return;
  }
  say("linked npx espalier");
}

/** Compiles what changed; where no source did since the last time, nothing is started. */
export async function compile(say) {
  const stamp = join(root, ".espalier", "compiled");
  const sources = fingerprint();
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === sources && isCompiled()) return;
  const start = performance.now();
  say("compiling TypeScript …");
  const { code, output } = await runScript("typescript/bin/tsc", ["-b"]);
  if (code !== 0) throw new BootstrapError(`TypeScript does not compile:\n${output.trim()}`);
  mkdirSync(join(root, ".espalier"), { recursive: true });
  writeFileSync(stamp, sources);
  say(`compiled TypeScript in ${secondsSince(start)}`);
}

/** The folders of all workspaces. */
function workspaces() {
  return ["packages", "plugins"]
    .filter((group) => existsSync(join(root, group)))
    .flatMap((group) => readdirSync(join(root, group)).map((name) => join(root, group, name)))
    .filter((folder) => existsSync(join(folder, "tsconfig.json")));
}

function isCompiled() {
  return workspaces().every((folder) => existsSync(join(folder, "dist", "index.js")));
}

/** Changes with every source or configuration file that is added, removed or written. */
function fingerprint() {
  const hash = createHash("sha256").update(process.versions.node);
  const note = (file) => {
    const { mtimeMs, size } = statSync(file);
    hash.update(`${file}\0${mtimeMs}\0${size}\n`);
  };
  for (const file of ["tsconfig.json", "tsconfig.base.json", "package-lock.json"]) note(join(root, file));
  for (const folder of workspaces()) {
    note(join(folder, "tsconfig.json"));
    note(join(folder, "package.json"));
    for (const file of readdirSync(join(folder, "src"), { recursive: true }).sort()) {
      if (file.endsWith(".ts")) note(join(folder, "src", file));
    }
  }
  return hash.digest("hex");
}

function tail(output, count) {
  return output.trim().split(/\r?\n/).slice(-count).join("\n");
}

/**
 * Runs a script's work; a failure that the user can act on is shown without a stack trace.
 *
 * @param {() => Promise<number | void>} work gives the exit code, 0 where it gives none
 */
export async function runMain(work) {
  try {
    process.exitCode = (await work()) ?? 0;
  } catch (error) {
    // errors of Espalier carry a code and mostly a hint
    const isOurs = String(error?.code).startsWith("ESPALIER_");
    console.error(isOurs ? error.message : error);
    if (isOurs && error.hint) console.error(`get it with: ${error.hint}`);
    process.exitCode = error?.exitCode ?? 1;
  }
}

const isStarted = process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url);
if (isStarted) await runMain(() => bootstrap());
