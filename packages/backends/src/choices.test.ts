import os from "node:os";
import { UsageError } from "@espalier/core";
import { afterEach, expect, test, vi } from "vitest";
import { resolveDevice } from "./device.js";
import { backendsNamed, requestedBackend } from "./list.js";
import { resolveThreads } from "./threads.js";

afterEach(() => vi.unstubAllEnvs());

test("auto stands for all backends, the fastest first", () => {
  expect(backendsNamed("auto").map(({ name }) => name)).toEqual(["libtorch", "tensorflow", "webgpu", "wasm"]);
  expect(backendsNamed("tensorflow").map(({ name }) => name)).toEqual(["tensorflow"]);
});

test("a wrong name is answered with the right ones", () => {
  expect(() => backendsNamed("libtroch")).toThrow(UsageError);
  expect(() => backendsNamed("libtroch")).toThrow(
    'unknown backend "libtroch"; did you mean "libtorch"? One of: auto, libtorch, tensorflow, wasm, webgpu',
  );
});

test("what is given beats the environment, which beats auto", () => {
  vi.stubEnv("ESPALIER_BACKEND", "wasm");
  expect(requestedBackend("tensorflow")).toBe("tensorflow");
  expect(requestedBackend(undefined)).toBe("wasm");
  vi.stubEnv("ESPALIER_BACKEND", "");
  expect(requestedBackend(undefined)).toBe("auto");
});

test("threads are a whole number from 1, or all cores", () => {
  expect(resolveThreads(3)).toBe(3);
  vi.stubEnv("ESPALIER_THREADS", "5");
  expect(resolveThreads("auto")).toBe(5);
  expect(resolveThreads(3)).toBe(3);
  vi.stubEnv("ESPALIER_THREADS", "many");
  expect(() => resolveThreads("auto")).toThrow(UsageError);
  vi.stubEnv("ESPALIER_THREADS", undefined);
  expect(resolveThreads("auto")).toBe(os.availableParallelism());
  expect(resolveThreads(undefined)).toBe(os.availableParallelism());
  vi.unstubAllEnvs();
  for (const wrong of [0, -1, 1.5, Number.NaN, 5000]) expect(() => resolveThreads(wrong)).toThrow(UsageError);
});

test("devices have a full form", () => {
  expect(resolveDevice(undefined)).toBe("auto");
  expect(resolveDevice("cuda")).toBe("cuda:0");
  expect(resolveDevice("cuda:3")).toBe("cuda:3");
  for (const wrong of ["gpu", "cuda:", "cuda:x", "CPU", ""]) {
    expect(() => resolveDevice(wrong)).toThrow(`given "${wrong}"`);
  }
});

test("the environment names a device where nobody else does, and is named where it is wrong", () => {
  vi.stubEnv("ESPALIER_DEVICE", "cuda");
  expect(resolveDevice(undefined)).toBe("cuda:0");
  expect(resolveDevice("auto")).toBe("cuda:0");
  expect(resolveDevice("cpu")).toBe("cpu");
  vi.stubEnv("ESPALIER_DEVICE", "GPU0");
  expect(() => resolveDevice("auto")).toThrow(
    'ESPALIER_DEVICE: expected auto, cpu, cuda, cuda:<index> or mps, given "GPU0"',
  );
  vi.stubEnv("ESPALIER_DEVICE", "");
  expect(resolveDevice(undefined)).toBe("auto");
});
