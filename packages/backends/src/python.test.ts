import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { MissingPiece } from "./missing-piece.js";
import { ensureVenv, findPython, pipFailure, pipInstall, sitePackages, venvPython } from "./python.js";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), "espalier-python-"));
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

/** A program on a PATH of its own that answers as a Python of that version would. */
function install(name: string, version: string, otherwise = "exit 1"): void {
  const file = path.join(folder, "bin", name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `#!/bin/sh\nif [ "$1" = -c ]; then echo "${version}"; exit 0; fi\n${otherwise}\n`);
  chmodSync(file, 0o755);
}

function onlyThesePrograms(): void {
  vi.stubEnv("PATH", path.join(folder, "bin"));
}

const log = () => undefined;

test("no Python at all is named with the command that gets it", async () => {
  onlyThesePrograms();
  const error = await findPython({ from: 10 }).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(MissingPiece);
  expect(error).toMatchObject({
    message: "Python 3.10 or newer is needed; there is no python3 on PATH",
    hint: expect.stringContaining("python3"),
  });
});

test("an old Python is named with its version", async () => {
  install("python3", "3 8");
  onlyThesePrograms();
  await expect(findPython({ from: 10 })).rejects.toThrow(
    "Python 3.10 or newer is needed; found only python3 3.8",
  );
});

test("a versioned Python is taken where python3 does not fit", async () => {
  install("python3", "3 13");
  install("python3.10", "3 10");
  install("python3.12", "3 12");
  onlyThesePrograms();
  expect(await findPython({ from: 10, to: 12 })).toMatchObject({ major: 3, minor: 12 });
  expect(await findPython({ from: 10 })).toMatchObject({ minor: 13 });
});

test("Python without venv: the package that brings it is named, nothing is left behind", async () => {
  install("python3", "3 11", `mkdir -p "$3/bin"; echo "ensurepip is not available" >&2; exit 1`);
  vi.stubEnv("PATH", `${path.join(folder, "bin")}${path.delimiter}/bin${path.delimiter}/usr/bin`);
  const venv = path.join(folder, "venv");
  const error = await ensureVenv(venv, { from: 10 }, log).catch((caught: unknown) => caught);
  expect(error).toMatchObject({
    code: "ESPALIER_BACKENDS_NO_VENV",
    hint: expect.stringContaining("python3"),
  });
  expect(String(error)).toContain("ensurepip is not available");
  expect(existsSync(venv)).toBe(false);
});

test("a real environment, and a real pip without a network", { timeout: 120_000 }, async () => {
  const venv = path.join(folder, "venv");
  const python = await ensureVenv(venv, { from: 10 }, log);
  expect(python.program).toBe(venvPython(venv));
  expect(await sitePackages(venv)).toBe(path.join(venv, "lib", `python3.${python.minor}`, "site-packages"));
  expect(await ensureVenv(venv, { from: 10 }, log)).toEqual(python); // a second time: it is there
  await expect(ensureVenv(venv, { from: 4, to: 5 }, log)).rejects.toThrow("Python 3.4 to 3.5 is needed");

  // nothing listens on the discard port of this machine
  vi.stubEnv("PIP_INDEX_URL", "http://127.0.0.1:9/simple");
  vi.stubEnv("PIP_RETRIES", "1");
  vi.stubEnv("PIP_CONFIG_FILE", os.devNull);
  for (const name of ["PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"]) vi.stubEnv(name, undefined);
  for (const name of ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]) vi.stubEnv(name, undefined);
  const request = {
    venv,
    requirements: ["espalier-does-not-exist==1.0"],
    withDependencies: false,
    space: 1,
    log,
  };
  await expect(pipInstall(request)).rejects.toMatchObject({
    code: "ESPALIER_BACKENDS_NO_NETWORK",
    message: expect.stringContaining("espalier-does-not-exist"),
    hint: expect.stringContaining("network"),
  });

  await expect(pipInstall({ ...request, space: 1e18 })).rejects.toMatchObject({
    code: "ESPALIER_BACKENDS_DISK_FULL",
    message: expect.stringMatching(/needs 1000000000\.0 GB, \d+\.\d GB are free/),
  });
});

test("pip's other failures are told apart", () => {
  const failure = (stderr: string) =>
    pipFailure("/venv", ["torch==2.11.0"], { code: 1, signal: null, stdout: "", stderr });
  expect(
    failure("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"),
  ).toMatchObject({
    code: "ESPALIER_BACKENDS_DISK_FULL",
  });
  expect(failure("/venv/bin/python: No module named pip")).toMatchObject({
    code: "ESPALIER_BACKENDS_NO_VENV",
  });
  const unknown = failure("ERROR: No matching distribution found for torch==2.11.0");
  expect(unknown.code).toBe("ESPALIER_BACKENDS_PIP");
  expect(unknown.message).toContain("No matching distribution found");
  expect(unknown.hint).toContain("shows the whole output");
  expect(failure("Could not find a version (from versions: none)").hint).toContain("check the network");
});
