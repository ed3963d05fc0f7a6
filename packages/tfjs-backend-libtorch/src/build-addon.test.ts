import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AddonBuildError, type BuildAddonOptions, buildAddon, findAddon } from "./build-addon.js";

describe("buildAddon", () => {
  let folder: string;
  let options: BuildAddonOptions;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "build-addon-"));
    const outDir = join(folder, "addons");
    options = { torchRoot: "/somewhere/torch", torchVersion: "2.11.0", cxx11Abi: true, outDir };
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** A compiler that writes its arguments down slowly, as what it compiled. */
  function compiler(body: string): string {
    const path = join(folder, "compiler.sh");
    writeFileSync(path, `#!/bin/sh\n${body}\n`);
    chmodSync(path, 0o755);
    return path;
  }
  const writing = `for last; do :; done; echo start > "$last"; sleep 0.3; echo "$@" >> "$last"; echo run >> ${"$0"}.log`;

  it("compiles for that torch, with its string ABI, and finds the result again", async () => {
    const given = { ...options, cxx11Abi: false, compiler: compiler(writing) };
    expect(findAddon(given)).toBeNull();
    const first = await buildAddon(given);
    expect(first.compiled).toBe(true);
    const command = readFileSync(first.path, "utf8");
    for (const part of [
      "-std=c++17",
      "-D_GLIBCXX_USE_CXX11_ABI=0",
      "-I/somewhere/torch/include",
      "-L/somewhere/torch/lib",
      "-Wl,-rpath,/somewhere/torch/lib",
      "-ltorch_cpu",
      "addon.cc",
    ]) {
      expect(command).toContain(part);
    }
    expect(await buildAddon(given)).toEqual({ path: first.path, compiled: false });
    expect(findAddon(given)).toBe(first.path);
  });

  it("keeps addons of other torches apart", async () => {
    const given = { ...options, compiler: compiler(writing) };
    const paths = new Set<string>();
    for (const other of [
      {},
      { torchVersion: "2.10.0" },
      { torchRoot: "/elsewhere/torch" },
      { cxx11Abi: false },
    ]) {
      paths.add((await buildAddon({ ...given, ...other })).path);
    }
    expect(paths.size).toBe(4);
  });

  it("leaves a whole file and nothing else when several build at once", async () => {
    const given = { ...options, compiler: compiler(writing) };
    const built = await Promise.all([buildAddon(given), buildAddon(given), buildAddon(given)]);
    expect(new Set(built.map(({ path }) => path)).size).toBe(1);
    expect(readFileSync(built[0]!.path, "utf8")).toMatch(/start\n.*-std=c\+\+17/);
    expect(readdirSync(options.outDir)).toHaveLength(1);
  });

  it("says when there is no compiler", async () => {
    const failed = buildAddon({ ...options, compiler: join(folder, "missing") });
    await expect(failed).rejects.toThrow(AddonBuildError);
    await expect(failed).rejects.toMatchObject({ reason: "no-compiler" });
    await expect(failed).rejects.toThrow(/install one .* or set CXX/);
  });

  it("hands on what the compiler complains about, and leaves no file", async () => {
    const complaining = compiler(
      'echo "addon.cc:1: fatal error: ATen/Context.h: No such file" >&2; echo more >&2; exit 1',
    );
    const failed = buildAddon({ ...options, compiler: complaining });
    await expect(failed).rejects.toMatchObject({
      reason: "compile-failed",
      output: expect.stringContaining("more"),
    });
    await expect(failed).rejects.toThrow(/fatal error: ATen/);
    expect(readdirSync(options.outDir)).toEqual([]);
  });

  it("takes a compiler with arguments, as in CXX", async () => {
    mkdirSync(options.outDir, { recursive: true });
    const { path } = await buildAddon({ ...options, compiler: `${compiler(writing)} --first` });
    expect(readFileSync(path, "utf8")).toContain("start\n--first -O3");
  });
});
