import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { torchOfTests } from "../test/libtorch.js";

const here = fileURLToPath(new URL("../", import.meta.url));
const root = join(here, "../..");
const folder = mkdtempSync(join(tmpdir(), "packed-libtorch-"));
const installed = join(folder, "node_modules", "@espalier", "tfjs-backend-libtorch");
const { torchRoot } = torchOfTests();

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function must(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stderr}${stdout}`);
  return stdout;
}

/** Installs what `npm pack` packs into an empty folder; its dependencies are the repository's, linked. */
beforeAll(() => {
  must(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-b", here], root);
  const packed = JSON.parse(must("npm", ["pack", "--json", "--pack-destination", folder], here)) as [
    { filename: string },
  ];
  mkdirSync(installed, { recursive: true });
  must("tar", ["-xzf", join(folder, packed[0].filename), "--strip-components=1", "-C", installed], folder);
  const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  const require = createRequire(join(here, "package.json"));
  for (const name of Object.keys(manifest.dependencies)) {
    const place = join(folder, "node_modules", name);
    mkdirSync(dirname(place), { recursive: true });
    symlinkSync(dirname(require.resolve(`${name}/package.json`)), place);
  }
}, 120_000);

/** Runs a program as the user of the package would, in a home of its own and without our environment variables. */
function run(name: string, program: string) {
  const file = join(folder, name);
  writeFileSync(file, program);
  const kept = Object.entries(process.env).filter(
    ([key]) => !key.startsWith("ESPALIER_") && key !== "NODE_OPTIONS",
  );
  return spawnSync(process.execPath, [file], {
    cwd: folder,
    encoding: "utf8",
    env: {
      ...Object.fromEntries(kept),
      HOME: folder,
      XDG_CACHE_HOME: join(folder, "cache"),
      ESPALIER_TORCH: torchRoot,
    },
  });
}

/** The README's programs. */
const programs = [...readFileSync(join(here, "README.md"), "utf8").matchAll(/^```ts\n(.*?)^```/gms)].map(
  ([, code = ""]) => code,
);

it("holds no tests, and its sources for the compiler", () => {
  const files = must("find", [".", "-type", "f"], installed).split("\n");
  expect(files).toContain("./native/addon.cc");
  expect(files).toContain("./dist/index.js");
  expect(files.filter((file) => /\.test\.|tsbuildinfo/.test(file))).toEqual([]);
});

it("compiles at the first import and trains the README's network", { timeout: 280_000 }, () => {
  const first = run("first.mjs", programs[0] ?? "");
  expect(first.stderr).toMatch(/^libtorch: compiling the addon for torch \S+ \(once, under a minute\)\n$/);
  expect(first.status).toBe(0);
  const [before, after] = first.stdout.trim().split(" ").map(Number);
  expect(after).toBeLessThan(0.5 * (before as number));

  const again = run("second.mjs", programs[0] ?? "");
  expect(again.stderr).toBe("");
  expect(again.stdout).toBe(first.stdout);
});

it("can be required, too", () => {
  const { stdout, stderr } = run(
    "required.cjs",
    `const tf = require("@tensorflow/tfjs");
     const { libtorchInfo } = require("@espalier/tfjs-backend-libtorch");
     console.log(tf.getBackend(), tf.tensor1d([1, 2, 4]).sum().dataSync()[0], libtorchInfo().device);`,
  );
  expect(stderr).toBe("");
  expect(stdout).toBe("libtorch 7 cpu\n");
});

it("takes the README's steps one by one", () => {
  const cache = join(folder, process.platform === "darwin" ? "Library/Caches" : "cache");
  cpSync(join(cache, "espalier"), join(folder, ".espalier"), { recursive: true });
  const program = (programs[1] ?? "").replace('"python3"', JSON.stringify(torchRoot));
  const { stdout, stderr } = run("steps.mjs", `${program}\nconsole.log(tf.getBackend());`);
  expect(stderr).toBe("");
  expect(stdout).toBe("libtorch\n");
});

it("says what to do where PyTorch or the compiler is missing", () => {
  const load = 'await import("@espalier/tfjs-backend-libtorch");';
  const noTorch = run("no-torch.mjs", `process.env.ESPALIER_TORCH = "/no/such/torch";\n${load}`);
  expect(noTorch.status).toBe(1);
  expect(noTorch.stderr).toMatch(
    /TorchNotFoundError: PyTorch was not found: .*ESPALIER_TORCH names a Python/,
  );
  const environment = { ESPALIER_ADDON_DIR: "empty", CXX: "no-such-compiler" };
  const noCompiler = run(
    "no-compiler.mjs",
    `Object.assign(process.env, ${JSON.stringify(environment)});\n${load}`,
  );
  expect(noCompiler.status).toBe(1);
  expect(noCompiler.stderr).toMatch(/AddonBuildError: no C\+\+ compiler \(no-such-compiler\): install one/);
});
