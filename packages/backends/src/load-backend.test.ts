import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { UsageError } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { afterAll, afterEach, beforeEach, expect, test, vi } from "vitest";
import { loadBackend } from "./load-backend.js";

// a machine on which nothing was set up
const home = mkdtempSync(path.join(os.tmpdir(), "espalier-load-"));

beforeEach(() => {
  vi.stubEnv("ESPALIER_HOME", home);
  vi.stubEnv("ESPALIER_BACKEND", "");
  vi.stubEnv("ESPALIER_TORCH", "");
  vi.stubEnv("PATH", path.join(home, "bin"));
});

afterEach(() => vi.unstubAllEnvs());
afterAll(() => rmSync(home, { recursive: true, force: true }));

test("a backend that is not set up says which command sets it up", async () => {
  for (const name of ["libtorch", "tensorflow"]) {
    await expect(loadBackend({ backend: name })).rejects.toMatchObject({
      code: "ESPALIER_BACKENDS_NOT_SET_UP",
      hint: `get it with: npx espalier setup ${name}`,
    });
  }
});

test("wrong names, devices and threads are wrong use", async () => {
  await expect(loadBackend({ backend: "pytorch" })).rejects.toThrow(UsageError);
  await expect(loadBackend({ device: "gpu" })).rejects.toThrow(UsageError);
  await expect(loadBackend({ threads: 0 })).rejects.toThrow(UsageError);
});

test("wasm has no GPU, and auto says what each backend lacks", async () => {
  await expect(loadBackend({ backend: "wasm", device: "cuda:0" })).rejects.toMatchObject({
    code: "ESPALIER_BACKENDS_NO_DEVICE",
    exitCode: 2,
  });
  const error = await loadBackend({ device: "cuda:0" }).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: "ESPALIER_BACKENDS_NO_DEVICE", exitCode: 2, key: "device" });
  for (const name of ["libtorch", "tensorflow", "webgpu", "wasm"])
    expect(String(error)).toContain(`backend ${name}`);
});

test("auto ends with wasm, says so in a line and why, and it computes", async () => {
  const said: string[] = [];
  const engine = await loadBackend({ log: (line) => said.push(line) });
  expect(engine).toMatchObject({ name: "wasm", device: "cpu", threads: 1 });
  expect(engine.why).toContain("no torch is installed");
  expect(engine.why).toContain("its Python wheel is not installed");
  expect(said.filter((line) => line.includes("last resort"))).toHaveLength(2);
  expect(said[0]).toContain("espalier setup libtorch");
  expect(tf.getBackend()).toBe("wasm");
  const gradient = tf.tidy(() =>
    tf
      .grad((x) => x.square().sum())(tf.tensor1d([1, -2, 3]))
      .arraySync(),
  );
  expect(gradient).toEqual([2, -4, 6]);
});
