import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { UsageError } from "@espalier/core";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { locateTorch } from "./libtorch/locate.js";
import { setupBackend } from "./setup-backend.js";

let home: string;
let said: string[];
const log = (line: string) => {
  said.push(line);
};

beforeEach(() => {
  said = [];
  home = mkdtempSync(path.join(os.tmpdir(), "espalier-setup-"));
  mkdirSync(path.join(home, "bin"));
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true, force: true });
});

function emptyMachine(): void {
  vi.stubEnv("ESPALIER_HOME", home);
  vi.stubEnv("ESPALIER_BACKEND", "");
  vi.stubEnv("ESPALIER_TORCH", "");
  vi.stubEnv("CXX", "");
  vi.stubEnv("PATH", path.join(home, "bin"));
}

test("a machine with nothing but Node: each missing piece is named and wasm is left", {
  timeout: 60_000,
}, async () => {
  emptyMachine();
  const result = await setupBackend("auto", log);
  expect(result.name).toBe("wasm");
  expect(result.failures.map(({ name }) => name)).toEqual(["libtorch", "tensorflow"]);
  for (const failure of result.failures) {
    expect(failure.message).toContain("there is no python3 on PATH");
    expect(failure.fix).toMatch(/python3/);
  }
  expect(said.join("\n")).toContain("get it with:");
  // the second time, the check in a process of its own is not repeated
  const start = performance.now();
  expect((await setupBackend("wasm", log)).name).toBe("wasm");
  expect(performance.now() - start).toBeLessThan(500);
});

test("a torch without a compiler: the compiler is named", async () => {
  const { torch } = await locateTorch(); // this machine's own, which npm test has set up
  if (torch === null) throw new Error("libtorch is not set up: npx espalier setup libtorch");
  emptyMachine();
  vi.stubEnv("ESPALIER_TORCH", torch.torchRoot);
  await expect(setupBackend("libtorch", log)).rejects.toMatchObject({
    code: "ESPALIER_BACKENDS_NO_COMPILER",
    message: expect.stringContaining("C++17 compiler"),
    hint: expect.stringMatching(/g\+\+|gcc|xcode-select/),
  });
});

test("a compiler that fails: its first error and a log file", async () => {
  const { torch } = await locateTorch();
  if (torch === null) throw new Error("libtorch is not set up: npx espalier setup libtorch");
  emptyMachine();
  const compiler = path.join(home, "bin", "g++");
  writeFileSync(compiler, "#!/bin/sh\necho 'addon.cc:1:10: fatal error: out of patience' >&2\nexit 1\n");
  chmodSync(compiler, 0o755);
  vi.stubEnv("ESPALIER_TORCH", torch.torchRoot);
  await expect(setupBackend("libtorch", log)).rejects.toMatchObject({
    code: "ESPALIER_BACKENDS_COMPILE",
    message: expect.stringContaining("out of patience"),
    file: path.join(home, ".espalier", "addon", "libtorch.log"),
  });
});

test("a torch that was chosen and is none stops set-up of libtorch", async () => {
  emptyMachine();
  vi.stubEnv("ESPALIER_TORCH", path.join(home, "nothing"));
  await expect(setupBackend("libtorch", log)).rejects.toMatchObject({
    code: "ESPALIER_BACKENDS_NO_TORCH",
    message: expect.stringContaining("which does not exist"),
  });
});

test("Python 3.13 alone has no TensorFlow, and the reason is said", async () => {
  emptyMachine();
  const python = path.join(home, "bin", "python3.13");
  writeFileSync(python, '#!/bin/sh\necho "3 13"\n');
  chmodSync(python, 0o755);
  symlinkSync(python, path.join(home, "bin", "python3"));
  await expect(setupBackend("tensorflow", log)).rejects.toMatchObject({
    message: "Python 3.10 to 3.12 is needed; found only python3 3.13",
    hint: expect.stringContaining("pyenv install 3.12"),
  });
});

test("a wrong name lists the right ones", async () => {
  await expect(setupBackend("torch", log)).rejects.toThrow(UsageError);
});
