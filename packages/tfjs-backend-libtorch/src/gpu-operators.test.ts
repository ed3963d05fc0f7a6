import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { addonPathOfTests, torchOfTests, useLibtorch } from "../test/libtorch.js";
import { type Addon, openAddon } from "./addon.js";
import { namedOperators } from "./aten.js";
import { deviceMemory, explainDevice, gpuCount, openDevice, setDeterministic } from "./device.js";
import { hasKernelFor } from "./shapes.js";

let addon: Addon;
beforeAll(async () => {
  await useLibtorch();
  addon = openAddon(addonPathOfTests());
});

/** Whether PyTorch's part for CUDA can be loaded here: all of NVIDIA's libraries are installed with it. */
const { torchRoot, cudaVersion } = torchOfTests();
const nvidia = join(dirname(torchRoot), "nvidia");
const hasCudaLibraries = cudaVersion !== null && existsSync(nvidia) && readdirSync(nvidia).includes("cudnn");

describe("operators that the kernels name", () => {
  it("exist in this PyTorch, all of them", () => {
    expect(namedOperators().length).toBeGreaterThan(100);
    for (const operator of namedOperators())
      expect(() => operator.indexIn(addon), `${operator.name}.${operator.overload}`).not.toThrow();
  });

  // A GPU is not needed for it: PyTorch's kernels for CUDA register themselves when their library is loaded.
  it.skipIf(!hasCudaLibraries)("have a kernel for CUDA, but for those that are the CPU's own", () => {
    addon.loadLibrary("libtorch_cuda.so");
    const lacking = namedOperators()
      .filter((operator) => !hasKernelFor(addon, operator, "CUDA"))
      .map((operator) => operator.name);
    expect(lacking.filter((name) => !name.includes("_for_cpu"))).toEqual([]);
    expect(lacking.some((name) => name.includes("_for_cpu"))).toBe(true);
  });
});

describe("a device", () => {
  it("that this PyTorch or machine does not have is refused with the reason", () => {
    if (gpuCount(addon) > 0)
      return expect(() => openDevice(addon, "cuda:63")).toThrow(/there (is only|are) cuda:0/);
    const expected = hasCudaLibraries ? /NVIDIA driver|CUDA GPU/ : /cannot open shared object/;
    expect(() => openDevice(addon, "cuda:0")).toThrow(expected);
  });

  it("of the CPU has no allocator to ask", () => {
    expect(deviceMemory(addon, "cpu")).toBeNull();
  });

  it.each([
    ["libtorch_cuda.so: cannot open shared object file: No such file or directory", "not-in-build", null],
    ["libcudnn.so.9: cannot open shared object file: No such file or directory", "missing-library", null],
    [
      "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver",
      "driver-too-old",
      "12.2",
    ],
    [
      "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver",
      "driver-too-old",
      "11.4",
    ],
    ["CUDA driver version is insufficient for CUDA runtime version", "driver-too-old", null],
    ["Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU", "no-driver", null],
    ["No CUDA GPUs are available", "none", null],
    ["CUDA driver initialization failed, you might not have a CUDA gpu.", "none", null],
    ["something else", "unknown", null],
  ])("that says '%s' is known as %s", (said, reason, driverCuda) => {
    expect(explainDevice("cuda:0", new Error(said))).toMatchObject({
      reason,
      driverCuda,
      message: `cuda:0: ${said}`,
    });
  });

  it("can be asked for reproducible algorithms, and the CPU's go on", () => {
    setDeterministic(addon, true);
    try {
      expect(process.env.CUBLAS_WORKSPACE_CONFIG).toBe(":4096:8");
      const ones = addon.fromData(Float32Array.of(1, 1), [2], "float32", "cpu");
      const sum = addon.call(addon.operator("aten::sum", ""), [ones]);
      const value = new Float32Array(1);
      addon.toData(sum as typeof ones, value);
      expect(value[0]).toBe(2);
      addon.free(ones);
      addon.free(sum as typeof ones);
    } finally {
      setDeterministic(addon, false);
    }
  });
});
