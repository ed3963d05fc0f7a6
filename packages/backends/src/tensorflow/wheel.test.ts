import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { tensorflow } from "./index.js";
import { findWheel, wheelIn } from "./wheel.js";

let home: string;

beforeEach(() => {
  home = mkdtempSync(path.join(os.tmpdir(), "espalier-wheel-"));
  vi.stubEnv("ESPALIER_HOME", home);
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true, force: true });
});

/** The part of an unpacked wheel that is looked at. */
function unpack(venv: string, distribution: string, isComplete = true): string {
  const packages = path.join(home, venv, "lib", "python3.11", "site-packages");
  mkdirSync(path.join(packages, "tensorflow"), { recursive: true });
  const ending = (name: string) => (process.platform === "darwin" ? `lib${name}.2.dylib` : `lib${name}.so.2`);
  for (const name of ["tensorflow_cc", "tensorflow_framework"]) {
    writeFileSync(path.join(packages, "tensorflow", ending(name)), "");
  }
  if (isComplete) mkdirSync(path.join(packages, `${distribution}.dist-info`));
  return packages;
}

test("there is none", async () => {
  expect(await findWheel()).toBeNull();
  expect(await tensorflow.find()).toMatchObject({
    usable: false,
    why: "its Python wheel is not installed",
    fix: "npx espalier setup tensorflow",
  });
});

test("the CPU wheel, without an addon yet", async () => {
  unpack(".venv", "tensorflow_cpu-2.18.1");
  expect(await findWheel()).toMatchObject({ version: "2.18.1", cuda: false, cudaLibraries: [] });
  expect(await tensorflow.find()).toMatchObject({
    usable: false,
    why: "its addon is not compiled for this wheel",
  });
});

test("an installation that was broken off is none", async () => {
  expect(await wheelIn(unpack(".venv", "tensorflow_cpu-2.18.1", false))).toBeNull();
});

test("the GPU wheel has its libraries beside it", async () => {
  const packages = unpack(".venv-tensorflow", "tensorflow-2.18.1");
  for (const name of ["cudnn", "cublas"])
    mkdirSync(path.join(packages, "nvidia", name, "lib"), { recursive: true });
  const wheel = await findWheel();
  expect(wheel).toMatchObject({ version: "2.18.1", cuda: true });
  expect([...wheel!.cudaLibraries].sort()).toEqual(
    ["cublas", "cudnn"].map((name) => path.join(packages, "nvidia", name, "lib")),
  );
});
