// `npm test`: makes the clone runnable, sets up the engines, then checks format, lint and types and runs every
// test; the numerical ones once per engine. `npm test -- packages/core` passes its arguments to vitest and leaves the
// other checks out. The last line is `N passed, N failed`, with `, N skipped` where something was.
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { setUpReferenceEnvironment } from "../benchmarks/reference-environment.mjs";
import { compile, preparePackages } from "./bootstrap.mjs";
import { root, runScript, secondsSince } from "./programs.mjs";

const results = join(root, ".espalier", "test-results.json");
const given = process.argv.slice(2);
const count = { passed: 0, failed: 0, skipped: 0 };
/** What failed, said once more at the end: a long log is read from there. */
const failures = [];
/** What was not run, and why. */
const skipped = [];
const say = (line) => console.log(line);

function fail(name) {
  count.failed++;
  failures.push(name);
}

/** Runs one check that either passes or fails as a whole; what it found wrong is shown. */
async function check(name, work) {
  const start = performance.now();
  try {
    await work();
    count.passed++;
    say(`✓ ${name} (${secondsSince(start)})`);
    return true;
  } catch (error) {
    fail(name);
    say(`✗ ${name}\n${describe(error)}`);
    return false;
  }
}

/** A message with the command that helps, for what a user can act on; else the stack, for it is a defect. */
function describe(error) {
  if (!String(error?.code).startsWith("ESPALIER_")) return error?.stack ?? String(error);
  return error.hint ? `${error.message}\n  get it with: ${error.hint}` : error.message;
}

/** Fails with the output of a tool of `node_modules` where it does not end with 0. */
async function tool(file, ...args) {
  const { code, output } = await runScript(file, args);
  if (code === 0) return;
  throw Object.assign(new Error(output.trim()), { code: "ESPALIER_CHECK" });
}

/** The engines that may be impossible here, and the vitest project whose tests then are skipped. */
const OPTIONAL = { tensorflow: "numerics-tensorflow", webgpu: "webgpu" };

/** Sets up the engines and gives the optional ones that work. Why one does not, and what gets it, is said. */
async function setUpEngines() {
  const { setupBackend } = await import("../packages/backends/dist/index.js");
  await check("libtorch is set up", () => setupBackend("libtorch", say));
  const working = [];
  for (const name of Object.keys(OPTIONAL)) {
    try {
      const { version, why } = await setupBackend(name, say);
      count.passed++;
      working.push(name);
      say(`✓ ${name} is set up: ${version}, ${why}`);
    } catch (error) {
      // a project that is not run tells no number of tests: each counts as one
      count.skipped++;
      skipped.push(`${name} cannot be set up here, its tests are skipped: ${describe(error)}`);
      say(`- ${skipped.at(-1)}`);
    }
  }
  return working;
}

/** The Python that exchange with Hugging Face is tested against; without it those tests are skipped, which is said. */
function setUpTransformers() {
  const found = setUpReferenceEnvironment(root, say);
  if ("missing" in found) {
    skipped.push(`transformers cannot be set up here, exchange with it is not tested: ${found.missing}`);
    say(`- ${skipped.at(-1)}`);
    return;
  }
  count.passed++;
  say("✓ transformers is set up, in .venv-reference");
}

/** Runs vitest, its output shown as it comes, and adds up what it counted. */
async function runTests(engines) {
  const projects = [
    "unit",
    "numerics-libtorch",
    "numerics-wasm",
    ...engines.map((engine) => OPTIONAL[engine]),
  ];
  mkdirSync(dirname(results), { recursive: true });
  rmSync(results, { force: true });
  const { code } = await runScript(
    "vitest/vitest.mjs",
    [
      "run",
      ...projects.flatMap((name) => ["--project", name]),
      "--reporter=default",
      "--reporter=json",
      `--outputFile.json=${results}`,
      ...given,
    ],
    { shown: true, env: process.stdout.isTTY ? process.env : { ...process.env, NO_COLOR: "1" } },
  );
  const before = count.failed;
  addResults();
  // an error outside of every test, or a run that was broken off
  if (code !== 0 && count.failed === before) fail("vitest ended with an error outside of every test");
}

function addResults() {
  let report;
  try {
    report = JSON.parse(readFileSync(results, "utf8"));
  } catch {
    say("✗ vitest wrote no results");
    fail("vitest wrote no results");
    return;
  }
  for (const file of report.testResults) {
    const tests = file.assertionResults;
    const path = relative(root, file.name);
    for (const { status, fullName } of tests) {
      if (status === "passed") count.passed++;
      else if (status === "failed") fail(`${path}: ${fullName}`);
      else count.skipped++;
    }
    // a file that could not be loaded, or whose hooks failed, has no failed test of its own
    if (file.status === "failed" && !tests.some(({ status }) => status === "failed")) {
      fail(`${path}: ${file.message.split("\n")[0] || "see above"}`);
    }
  }
}

async function main() {
  const isReady = await check("npm packages are installed", () => preparePackages(say));
  if (!isReady) return;
  await check("TypeScript compiles", () => compile(say));
  const engines = await setUpEngines();
  setUpTransformers();
  if (given.length === 0) {
    await check("format and lint", () => tool("@biomejs/biome/bin/biome", "check", "."));
    await check("types of the tests", () => tool("typescript/bin/tsc", "-p", "tsconfig.test.json"));
    await check("API documentation", () => tool("typedoc/bin/typedoc", "--emit", "none"));
  }
  await runTests(engines);
}

try {
  await main();
} catch (error) {
  say(error?.stack ?? String(error));
  fail(error?.message ?? String(error));
}
if (count.failed > 0) process.exitCode = 1;
for (const line of skipped) console.log(`- ${line}`);
for (const name of failures) console.log(`✗ ${name}`);
const rest = count.skipped > 0 ? `, ${count.skipped} skipped` : "";
console.log(`${count.passed} passed, ${count.failed} failed${rest}`);
