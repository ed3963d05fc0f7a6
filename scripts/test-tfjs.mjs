#!/usr/bin/env node
/**
 * Runs TensorFlow.js's own test suite (the tests inside @tensorflow/tfjs-core), on libtorch and tensorflow or on one backend.
 *
 *   node scripts/test-tfjs.mjs [--backend libtorch|tensorflow|cpu] [--json FILE] [--filter TEXT]
 *
 * A spec is attributed to the kernels that it asks the engine for. It counts against the backend when it fails although
 * the backend registers every one of them; then the exit code is 1. A spec that asks for a kernel that the backend does
 * not have is only counted.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";

const require = createRequire(import.meta.url);
const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const cache = join(root, ".espalier", "tfjs-suite");
const libtorchSource = join(root, "packages", "tfjs-backend-libtorch", "src");
const coreTests = join(dirname(require.resolve("@tensorflow/tfjs-core/package.json")), "dist");

/**
 * Specs that demand something outside a kernel's job. `spec` is a part of the full name in lower case.
 * @type {readonly { spec: string, backends: readonly string[], reason: string }[]}
 */
const EXCLUDED = [
  {
    spec: "conv",
    backends: ["tensorflow"],
    reason: "TensorFlow's convolution kernels end the process in these tests",
  },
  {
    spec: "pool",
    backends: ["tensorflow"],
    reason: "TensorFlow's pooling kernels end the process in these tests",
  },
];

const TENSORFLOW_ADDON = "node_modules/@tensorflow/tfjs-node-gpu/lib/napi-v8/tfjs_binding.node";

const { values: options } = parseArgs({
  options: {
    backend: { type: "string" },
    json: { type: "string" },
    filter: { type: "string" },
    help: { type: "boolean", short: "h" },
  },
});
if (options.help) {
  console.log("node scripts/test-tfjs.mjs [--backend libtorch|tensorflow|cpu] [--json FILE] [--filter TEXT]");
  process.exit(0);
}

// Without a choice both native engines are tested, each in a process of its own; ours decides the exit code.
if (options.backend === undefined) {
  if (options.json !== undefined) {
    console.error("--json needs --backend: each engine has figures of its own");
    process.exit(2);
  }
  const codes = ["libtorch", "tensorflow"].map((backend) => {
    if (backend === "tensorflow" && !existsSync(join(root, TENSORFLOW_ADDON))) {
      console.log("\ntensorflow: not set up (npx espalier setup tensorflow), so its specs are not run");
      return 0;
    }
    const again = [fileURLToPath(import.meta.url), ...process.argv.slice(2), "--backend", backend];
    return spawnSync(process.execPath, again, { stdio: "inherit" }).status ?? 1;
  });
  process.exit(codes[0]);
}

/** How each backend is loaded, in the process of the tests. */
const LOADERS = {
  libtorch: `import { loadLibtorch } from ${JSON.stringify(join(libtorchSource, "load.ts"))};
    loadLibtorch({ addonPath: process.env.ESPALIER_TEST_ADDON, threads: 2 });`,
  tensorflow: `import { createRequire } from "node:module";
    createRequire(process.env.ESPALIER_TEST_ROOT)("@tensorflow/tfjs-node-gpu");`,
  cpu: `import "@tensorflow/tfjs-backend-cpu";`,
};
const loader = LOADERS[options.backend];
if (loader === undefined) {
  console.error(`unknown backend '${options.backend}': ${Object.keys(LOADERS).join(", ")}`);
  process.exit(2);
}

/** One core for the tests, the backend and the gradients: the copy that the tests import by relative paths. */
const oneCore = {
  name: "one-core",
  setup({ onResolve }) {
    onResolve({ filter: /^@tensorflow\/tfjs(-core)?$/ }, () => ({ path: join(coreTests, "index.js") }));
    onResolve({ filter: /^@tensorflow\/tfjs-core\/dist\// }, ({ path }) => ({
      path: `${path.replace("@tensorflow/tfjs-core/dist", coreTests).replace(/\.js$/, "")}.js`,
    }));
  },
};

/** Sets jasmine's globals before any test file is evaluated, and records the kernels that a spec asks for. */
const BOOT = `
import { createRequire } from "node:module";
globalThis.jasmine = createRequire(process.env.ESPALIER_TEST_ROOT)("jasmine-core").boot();
`;

const PREPARE = (backend) => `
import "@tensorflow/tfjs-core/dist/register_all_gradients";
import "@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops";
import { setTestEnvs } from "@tensorflow/tfjs-core/dist/jasmine_util";
setTestEnvs([{ name: ${JSON.stringify(backend)}, backendName: ${JSON.stringify(backend)}, isDataSync: true }]);
`;

const RUN = (backend) => `
import { writeFileSync } from "node:fs";
import { engine, getKernel, getKernelsForBackend } from "@tensorflow/tfjs-core";
const registered = getKernelsForBackend(${JSON.stringify(backend)}).map((kernel) => kernel.kernelName);
const asked = new Set();
const ENGINE = engine();
const runKernel = ENGINE.runKernel;
ENGINE.runKernel = function (name, inputs, attrs) {
  asked.add(name);
  return runKernel.call(this, name, inputs, attrs);
};
const specs = [];
const env = globalThis.jasmine.getEnv();
const { ESPALIER_TEST_EXCLUDED, ESPALIER_TEST_FILTER, ESPALIER_TEST_OUT, ESPALIER_TEST_CURRENT } = process.env;
const excluded = JSON.parse(ESPALIER_TEST_EXCLUDED);
env.configure({
  random: false,
  specFilter: (spec) => {
    const name = spec.getFullName();
    return !excluded.some((part) => name.toLowerCase().includes(part)) && name.includes(ESPALIER_TEST_FILTER);
  },
});
env.addReporter({
  specStarted(result) {
    asked.clear();
    writeFileSync(ESPALIER_TEST_CURRENT, result.fullName);
  },
  specDone(result) {
    if (result.status === "excluded" || result.status === "pending") return;
    specs.push({
      name: result.fullName,
      passed: result.status === "passed",
      kernels: [...asked],
      failures: result.failedExpectations.map((failure) => failure.message.split("\\n")[0].slice(0, 300)),
    });
  },
});
await env.execute();
writeFileSync(ESPALIER_TEST_OUT, JSON.stringify({ registered, specs }));
process.exit(0);
`;

async function bundle() {
  mkdirSync(cache, { recursive: true });
  const part = (name, text) => {
    const path = join(cache, `${options.backend}-${name}.mjs`);
    writeFileSync(path, text);
    return path;
  };
  const boot = part("boot", BOOT);
  const prepare = part("prepare", PREPARE(options.backend));
  const load = part("load", loader);
  const run = part("run", RUN(options.backend));
  const outfile = join(cache, `${options.backend}-suite.mjs`);
  await build({
    stdin: {
      contents: [boot, load, prepare, join(coreTests, "tests.js"), run]
        .map((path) => `import ${JSON.stringify(path)};`)
        .join("\n"),
      resolveDir: root,
    },
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    // The test files are marked as free of side effects, which would drop them all.
    ignoreAnnotations: true,
    mainFields: ["module", "main"],
    logLevel: "error",
    external: ["@tensorflow/tfjs-node-gpu"],
    plugins: [oneCore],
    banner: {
      js: `import { createRequire as __createRequire } from "node:module"; const require = __createRequire(${JSON.stringify(import.meta.url)});`,
    },
  });
  return outfile;
}

/** The compiled addon, built by the package's own code. */
async function addon() {
  mkdirSync(cache, { recursive: true });
  await build({
    entryPoints: [join(libtorchSource, "build-addon.ts"), join(libtorchSource, "find-torch.ts")],
    outdir: cache,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    // The package finds its C++ source beside its own files.
    define: { "import.meta.url": JSON.stringify(pathToFileURL(join(libtorchSource, "index.ts")).href) },
    logLevel: "error",
  });
  const { buildAddon } = await import(pathToFileURL(join(cache, "build-addon.mjs")).href);
  const { findTorch } = await import(pathToFileURL(join(cache, "find-torch.mjs")).href);
  const torch = () => {
    if (process.env.ESPALIER_TORCH) return findTorch(process.env.ESPALIER_TORCH);
    try {
      return findTorch("python3");
    } catch {
      return findTorch(join(root, ".venv"));
    }
  };
  const built = await buildAddon({ ...torch(), outDir: join(root, ".espalier", "addon") });
  return built.path;
}

function run(suite, addonPath) {
  const out = join(cache, `${options.backend}-result.json`);
  const current = join(cache, `${options.backend}-current.txt`);
  rmSync(out, { force: true });
  const excluded = EXCLUDED.filter(({ backends }) => backends.includes(options.backend)).map(
    ({ spec }) => spec,
  );
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [suite], {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        TF_CPP_MIN_LOG_LEVEL: "2",
        ESPALIER_TEST_ADDON: addonPath,
        ESPALIER_TEST_ROOT: import.meta.url,
        ESPALIER_TEST_EXCLUDED: JSON.stringify(excluded),
        ESPALIER_TEST_FILTER: options.filter ?? "",
        ESPALIER_TEST_OUT: out,
        ESPALIER_TEST_CURRENT: current,
      },
    });
    let errors = "";
    child.stderr.on("data", (chunk) => {
      errors = (errors + chunk).slice(-4000);
    });
    child.on("error", fail);
    child.on("close", (code, signal) => {
      if (existsSync(out)) return done(JSON.parse(readFileSync(out, "utf8")));
      const spec = existsSync(current) ? readFileSync(current, "utf8") : "before the first spec";
      fail(new Error(`the tests' process ended (${signal ?? code}) in: ${spec}\n${errors}`));
    });
  });
}

function summarise({ registered, specs }) {
  const known = new Set(registered);
  const kernels = new Map(registered.map((name) => [name, { passed: 0, failed: 0 }]));
  const ours = [];
  const missing = new Map();
  let passed = 0;
  for (const spec of specs) {
    const lacking = spec.kernels.filter((name) => !known.has(name));
    for (const name of lacking) missing.set(name, (missing.get(name) ?? 0) + 1);
    if (spec.passed) passed++;
    else if (lacking.length === 0) ours.push(spec);
    if (lacking.length > 0) continue;
    for (const name of spec.kernels) kernels.get(name)[spec.passed ? "passed" : "failed"]++;
  }
  return {
    backend: options.backend,
    specs: specs.length,
    passed,
    failed: specs.length - passed,
    failedForUs: ours,
    kernels: Object.fromEntries(kernels),
    missingKernels: Object.fromEntries([...missing].sort((a, b) => b[1] - a[1])),
    excluded: EXCLUDED.filter(({ backends }) => backends.includes(options.backend)),
  };
}

function print(summary) {
  for (const [name, { passed, failed }] of Object.entries(summary.kernels).sort()) {
    console.log(
      `${name.padEnd(34)} ${String(passed).padStart(5)} passed ${String(failed).padStart(4)} failed`,
    );
  }
  for (const { name, failures, kernels } of summary.failedForUs) {
    console.log(`\nFAILED ${name}\n  ${failures.slice(0, 3).join("\n  ")}\n  kernels: ${kernels.join(", ")}`);
  }
  for (const { spec, reason } of summary.excluded) console.log(`\nexcluded: *${spec}*: ${reason}`);
  console.log(
    `\n${summary.backend}: ${summary.passed} of ${summary.specs} specs pass; ${summary.failedForUs.length} fail although all ` +
      `their kernels are registered; ${summary.failed - summary.failedForUs.length} ask for kernels that are not.`,
  );
}

const suite = await bundle();
const summary = summarise(await run(suite, options.backend === "libtorch" ? await addon() : ""));
if (options.json) writeFileSync(options.json, `${JSON.stringify(summary, null, 2)}\n`);
print(summary);
process.exitCode = summary.failedForUs.length > 0 ? 1 : 0;
