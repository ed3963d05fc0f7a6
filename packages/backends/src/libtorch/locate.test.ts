import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { isRecent, locateTorch } from "./locate.js";
import { torchOfPython } from "./python-torch.js";

let home: string;

beforeEach(() => {
  home = mkdtempSync(path.join(os.tmpdir(), "espalier-torch-"));
  vi.stubEnv("ESPALIER_HOME", home);
  vi.stubEnv("ESPALIER_TORCH", "");
  vi.stubEnv("PATH", path.join(home, "bin"));
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true, force: true });
});

/** A folder as the wheel of that version leaves it, as far as it is looked at. */
function makeTorch(packages: string, version: string): string {
  const torch = path.join(packages, "torch");
  mkdirSync(path.join(torch, "lib"), { recursive: true });
  mkdirSync(path.join(torch, "include", "ATen"), { recursive: true });
  const ending = process.platform === "darwin" ? "dylib" : "so";
  for (const name of ["c10", "torch_cpu"]) writeFileSync(path.join(torch, "lib", `lib${name}.${ending}`), "");
  writeFileSync(path.join(torch, "version.py"), `__version__ = '${version}'\ncuda: Optional[str] = None\n`);
  return torch;
}

/** A python3 that knows one torch, and counts how often it is started. */
function makePython(torch: string | null): { program: string; packages: string; starts: () => number } {
  const program = path.join(home, "bin", "python3");
  const packages = path.join(home, "lib", "site-packages");
  mkdirSync(path.dirname(program), { recursive: true });
  mkdirSync(packages, { recursive: true });
  const counter = path.join(home, "starts");
  writeFileSync(counter, "");
  const answer = JSON.stringify({ torch, folders: [packages] });
  writeFileSync(program, `#!/bin/sh\necho x >> '${counter}'\necho '${answer}'\n`);
  chmodSync(program, 0o755);
  return { program, packages, starts: () => readFileSync(counter, "utf8").length / 2 };
}

test("Python is asked once, and again when one of its folders changed", async () => {
  const { program, packages, starts } = makePython("/some/torch");
  expect(await torchOfPython(program)).toBe("/some/torch");
  expect(await torchOfPython(program)).toBe("/some/torch");
  expect(starts()).toBe(1);
  utimesSync(packages, new Date(), new Date(Date.now() + 5000)); // as installing a package does
  expect(await torchOfPython(program)).toBe("/some/torch");
  expect(starts()).toBe(2);
  vi.stubEnv("VIRTUAL_ENV", "/another/environment");
  await torchOfPython(program);
  expect(starts()).toBe(3);
});

test("the user's own torch comes before the project's", async () => {
  const own = makeTorch(path.join(home, "own"), "2.7.1");
  makeTorch(path.join(home, ".venv", "lib", "python3.11", "site-packages"), "2.11.0");
  const { program } = makePython(own);
  expect(await locateTorch()).toMatchObject({
    torch: { torchVersion: "2.7.1", torchRoot: own },
    source: `the torch of ${program}`,
  });
});

test("a torch that is too old is passed over for the project's", async () => {
  makePython(makeTorch(path.join(home, "own"), "2.5.1+cu121"));
  expect(await locateTorch()).toMatchObject({
    torch: null,
    reasons: [expect.stringContaining("version 2.5.1+cu121 is older than 2.6")],
    isChosen: false,
  });
  makeTorch(path.join(home, ".venv", "lib", "python3.11", "site-packages"), "2.11.0");
  expect(await locateTorch()).toMatchObject({
    torch: { torchVersion: "2.11.0" },
    source: "the torch in .venv",
  });
});

test("no torch anywhere", async () => {
  expect(await locateTorch()).toEqual({
    torch: null,
    reasons: ["no torch is installed (python3 has none, and there is none in .venv)"],
    isChosen: false,
  });
});

test("ESPALIER_TORCH takes a torch folder, an environment or a Python, and nothing in its stead", async () => {
  const torch = makeTorch(path.join(home, "env", "lib", "python3.12", "site-packages"), "2.8.0");
  const { program } = makePython(torch);
  for (const chosen of [torch, path.join(home, "env"), program]) {
    vi.stubEnv("ESPALIER_TORCH", chosen);
    expect(await locateTorch()).toMatchObject({ torch: { torchRoot: torch }, source: "ESPALIER_TORCH" });
  }
  for (const [chosen, reason] of [
    [path.join(home, "nothing"), "which does not exist"],
    [path.join(home, "bin"), "which cannot be used"],
  ] as const) {
    vi.stubEnv("ESPALIER_TORCH", chosen);
    expect(await locateTorch()).toMatchObject({
      torch: null,
      reasons: [expect.stringContaining(reason)],
      isChosen: true,
    });
  }
});

test("compares versions by number", () => {
  expect(["2.6.0", "2.11.0+cu130", "3.0.0", "2.10.0a0+git1"].map(isRecent)).toEqual([true, true, true, true]);
  expect(["2.5.9", "1.13.1", "nonsense"].map(isRecent)).toEqual([false, false, false]);
});
