import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { compileShared, findCompiler, firstError } from "./compiler.js";
import { installCommand } from "./missing-piece.js";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), "espalier-compiler-"));
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

test("a machine without a compiler is told how to get one", () => {
  expect(() => findCompiler({ PATH: folder })).toThrow("a C++17 compiler is needed");
  const command = process.platform === "darwin" ? "xcode-select --install" : "apt-get install g++";
  expect(installCommand("compiler", { PATH: folder })).toContain(command);
});

test("CXX that names nothing is said, not passed over", () => {
  expect(() => findCompiler({ ...process.env, CXX: "no-such-compiler" })).toThrow(
    'CXX names "no-such-compiler"',
  );
});

test("compiles, and leaves only the finished file", async () => {
  const source = path.join(folder, "good.cc");
  writeFileSync(source, 'extern "C" int answer() { return 42; }\n');
  const output = path.join(folder, "out", "good.so");
  await compileShared(["-shared", "-fPIC", source], output);
  expect(readdirSync(path.dirname(output))).toEqual(["good.so"]);
});

test("a failed compilation shows the first error and keeps the whole output", async () => {
  const source = path.join(folder, "bad.cc");
  writeFileSync(source, "#include <no-such-header.h>\n");
  const output = path.join(folder, "bad.so");
  const error = await compileShared(["-shared", "-fPIC", source], output).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: "ESPALIER_BACKENDS_COMPILE", file: `${output}.log` });
  expect(String(error)).toContain("no-such-header.h");
  expect(readFileSync(`${output}.log`, "utf8")).toContain("bad.cc");
  expect(existsSync(output)).toBe(false);
});

test("recognises a linker's error, too", () => {
  expect(firstError("note: x\n/usr/bin/ld: cannot find -ltorch_cpu\ncollect2: error: ld returned 1")).toBe(
    "/usr/bin/ld: cannot find -ltorch_cpu",
  );
  expect(firstError("all is well")).toBeNull();
});
