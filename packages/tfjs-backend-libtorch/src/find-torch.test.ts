import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { torchOfTests } from "../test/libtorch.js";
import { findTorch, TorchNotFoundError } from "./find-torch.js";

const suffix = process.platform === "darwin" ? "dylib" : "so";

describe("findTorch", () => {
  let root: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "find-torch-"));
    mkdirSync(join(root, "lib"));
    mkdirSync(join(root, "include", "ATen"), { recursive: true });
    writeFileSync(join(root, "lib", `libtorch_cpu.${suffix}`), "");
    writeFileSync(
      join(root, "lib", `libc10.${suffix}`),
      "..N3c105ErrorC1ENS_14SourceLocationENSt7__cxx1112basic_string..",
    );
    writeFileSync(join(root, "version.py"), "__version__ = '2.9.1'\ncuda: Optional[str] = None\n");
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  it("reads the version of a torch's folder", () => {
    expect(findTorch(root)).toEqual({
      torchRoot: root,
      torchVersion: "2.9.1",
      cxx11Abi: true,
      cudaVersion: null,
      cudaAvailable: false,
    });
  });

  it("tells the string ABI and CUDA", () => {
    writeFileSync(join(root, "lib", `libc10.${suffix}`), "..N3c105ErrorC1ENS_14SourceLocationESs..");
    writeFileSync(join(root, "lib", `libtorch_cuda.${suffix}`), "");
    writeFileSync(join(root, "version.py"), "__version__ = '2.6.0+cu124'\ncuda: Optional[str] = '12.4'\n");
    const torch = findTorch(root);
    expect(torch).toMatchObject({ torchVersion: "2.6.0+cu124", cudaVersion: "12.4" });
    if (process.platform === "linux") expect(torch.cxx11Abi).toBe(false);
  });

  it("reads the archives of libtorch without Python, too", () => {
    rmSync(join(root, "version.py"));
    writeFileSync(join(root, "build-version"), "2.11.0+cu130\n");
    expect(findTorch(root).torchVersion).toBe("2.11.0+cu130");
  });

  it("finds the torch that the tests run on by its Python, without importing it", () => {
    const torch = torchOfTests();
    expect(findTorch(torch.torchRoot)).toEqual(torch);
    expect(torch.torchVersion).toMatch(/^2\.\d+/);
  });

  it.each([
    ["no library", () => rmSync(join(root, "lib"), { recursive: true }), /libtorch_cpu/],
    ["no headers", () => rmSync(join(root, "include"), { recursive: true }), /no C\+\+ headers/],
    ["no version", () => rmSync(join(root, "version.py")), /does not say its version/],
  ])("refuses a folder with %s", (_, damage, message) => {
    damage();
    expect(() => findTorch(root)).toThrow(TorchNotFoundError);
    expect(() => findTorch(root)).toThrow(message);
  });

  it("says when a Python does not run or has no torch", () => {
    expect(() => findTorch(join(root, "python"))).toThrow(/cannot be asked for torch/);
    const python = join(root, "empty-python");
    writeFileSync(python, "#!/bin/sh\necho\n", { mode: 0o755 });
    expect(() => findTorch(python)).toThrow(/has no package torch/);
  });
});
