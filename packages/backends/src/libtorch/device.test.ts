import { EspalierError, UsageError } from "@espalier/core";
import { DeviceError, type DeviceFailure, type Torch } from "@espalier/tfjs-backend-libtorch/parts";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Gpu } from "../machine.js";
import { ofGpu, ofProcessor } from "./capabilities.js";
import { checkDevice, explainFailure } from "./device.js";

const withCuda: Torch = {
  torchRoot: "/somewhere/torch",
  torchVersion: "2.11.0+cu130",
  cxx11Abi: true,
  cudaVersion: "13.0",
  cudaAvailable: true,
};
const withoutCuda: Torch = {
  ...withCuda,
  torchVersion: "2.11.0+cpu",
  cudaVersion: null,
  cudaAvailable: false,
};
const withoutDriver: Torch = { ...withCuda, cudaAvailable: false };
const gpu: Gpu = {
  index: 0,
  name: "NVIDIA H200",
  memory: 143771,
  driver: "535.104.05",
  computeCapability: 9,
};
const none = async () => [];

afterEach(() => vi.unstubAllEnvs());

describe("a device that cannot be, before anything is loaded", () => {
  it.each([
    ["cuda:0", withoutCuda, /torch 2\.11\.0\+cpu in .* is a build without CUDA/, /ESPALIER_TORCH/],
    ["cuda:0", withoutDriver, /no NVIDIA driver on this machine/, /install the driver/],
    ["mps", withCuda, /expected cpu or cuda:<index>/, /--device cpu/],
  ])("%s is wrong use", async (device, torch, found, hint) => {
    const error = await checkDevice(device, torch, none).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(UsageError);
    expect(error).toMatchObject({
      key: "device",
      message: expect.stringMatching(found),
      hint: expect.stringMatching(hint),
    });
  });

  it("is not refused where the driver answers although its files are not seen", async () => {
    await expect(checkDevice("cuda:0", withoutDriver, async () => [gpu])).resolves.toBeUndefined();
    await expect(checkDevice("auto", withoutCuda, none)).resolves.toBeUndefined();
  });
});

describe("what PyTorch says of a device", () => {
  const explained = (reason: DeviceFailure, said: string, driverCuda: string | null = null, gpus = [gpu]) =>
    explainFailure("cuda:1", withCuda, gpus, new DeviceError(reason, `cuda:1: ${said}`, driverCuda));

  it("becomes what was found and what to do", () => {
    expect(explained("driver-too-old", "too old", "12.2")).toMatchObject({
      exitCode: 2,
      message:
        'backend libtorch has no device "cuda:1": torch 2.11.0+cu130 was built for CUDA 13.0, for which the NVIDIA driver 535.104.05 is too old (it takes CUDA 12.2)',
      hint: expect.stringContaining("install driver 580.65 or newer"),
    });
    expect(explained("index", "there is only cuda:0")).toMatchObject({
      exitCode: 2,
      message: 'backend libtorch has no device "cuda:1": there is only cuda:0',
    });
    expect(explained("missing-library", "libcudnn.so.9: cannot open")).toMatchObject({
      message: expect.stringContaining("libcudnn.so.9"),
      hint: expect.stringContaining('pip install "torch==2.11.0"'),
    });
    vi.stubEnv("CUDA_VISIBLE_DEVICES", "");
    expect(explained("none", "No CUDA GPUs are available")).toMatchObject({
      message: expect.stringContaining('the driver lists NVIDIA H200, CUDA_VISIBLE_DEVICES is ""'),
      hint: expect.stringContaining("unset CUDA_VISIBLE_DEVICES"),
    });
    expect(explained("no-driver", "Found no NVIDIA driver", null, [])).toMatchObject({ exitCode: 2 });
  });

  it("that is none of those is a failure of the device, not wrong use", () => {
    const error = explained("unknown", "CUDA error: an illegal instruction was encountered");
    expect(error).toBeInstanceOf(EspalierError);
    expect(error).toMatchObject({ exitCode: 1, message: expect.stringContaining("illegal instruction") });
  });
});

describe("what a device does of itself", () => {
  it("goes by the GPU's generation", () => {
    expect(ofGpu(gpu).map(({ available }) => available)).toEqual([true, true]);
    expect(ofGpu({ ...gpu, computeCapability: 7.5 }).map(({ available }) => available)).toEqual([
      false,
      false,
    ]);
    expect(ofGpu(null).map(({ available }) => available)).toEqual([null, null]);
  });

  it("goes by the processor's own flags", () => {
    const bf16 = (flags: string[] | null) =>
      ofProcessor(flags === null ? null : new Set(flags)).find(({ name }) => name === "bf16");
    expect(bf16(["avx2", "avx512_bf16", "amx_bf16"])).toMatchObject({
      available: true,
      how: "in hardware (amx_bf16, avx512_bf16)",
    });
    expect(bf16(["avx2"])).toMatchObject({ available: false });
    expect(bf16(null)).toMatchObject({ available: null });
  });
});
