import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { addonPathOfTests, normal, runKernels, useLibtorch } from "../../test/libtorch.js";
import { openAddon } from "../addon.js";
import type { LibtorchBackend } from "../backend.js";
import type { Recording } from "./recording.js";

const profiler = () => (tf.backend() as LibtorchBackend).profiler;

const count = ({ calls }: Recording, operator: string) =>
  calls.filter((call) => call.operator === operator).length;
const flops = ({ calls }: Recording) => calls.reduce((sum, call) => sum + call.products.flops, 0);

describe("profiler", () => {
  beforeAll(() => useLibtorch());

  it("names every operator, its kernel and its part of the work", () => {
    const x = normal([6, 4], 1);
    const weight = normal([3, 4], 2);
    const bias = normal([3], 3);
    const recording = profiler().record("timing", () => {
      profiler().phase("forward");
      const [y] = runKernels("EspalierLinear", { x, weight, bias }, { weightLayout: "out_in" });
      profiler().phase("backward");
      const attrs = { weightLayout: "out_in", hasBias: true };
      tf.dispose(runKernels("EspalierLinearGrad", { dy: y!, x, weight }, attrs));
      tf.dispose(y!);
    });
    expect(count(recording, "aten::addmm")).toBe(1);
    expect(count(recording, "aten::mm")).toBe(2);
    expect(recording.kernels.map(({ name, phase }) => [name, phase])).toEqual([
      ["EspalierLinear", "forward"],
      ["EspalierLinearGrad", "backward"],
    ]);
    const product = recording.calls.find(({ operator }) => operator === "aten::addmm")!;
    expect(product).toMatchObject({
      kernel: "EspalierLinear",
      phase: "forward",
      bytesRead: 4 * (6 * 4 + 3 * 4 + 3),
      bytesMade: 4 * 6 * 3,
      waits: false,
      products: {
        products: [{ batch: 1, m: 6, k: 4, n: 3, dtype: "float32", transposeA: false, transposeB: true }],
      },
    });
    expect(flops(recording)).toBe(3 * 2 * 6 * 4 * 3);
    // y, dx, dWeight, dBias, and what is freed outside of kernels is in no kernel.
    expect(
      recording.calls.filter(({ operator, kernel }) => operator === "free" && kernel === null),
    ).toHaveLength(4);
    tf.dispose([x, weight, bias]);
  });

  it("accounts for the whole time: calls follow each other, phases and kernels hold them", () => {
    const x = normal([64, 64], 1);
    const recording = profiler().record("timing", () => {
      profiler().phase("all");
      for (let run = 0; run < 10; run++) tf.dispose(tf.tidy(() => tf.matMul(x, x).add(x).sum()));
    });
    let end = 0;
    let sum = 0;
    for (const { start, milliseconds, conversionMilliseconds } of recording.calls) {
      expect(start).toBeGreaterThanOrEqual(end);
      expect(conversionMilliseconds).toBeLessThanOrEqual(milliseconds);
      end = start + milliseconds;
      sum += milliseconds;
    }
    expect(end).toBeLessThanOrEqual(recording.milliseconds);
    expect(recording.nativeMilliseconds).toBeCloseTo(sum, 9);
    const [all, ...others] = recording.phases;
    expect(others).toEqual([]);
    expect(all!.nativeMilliseconds).toBeCloseTo(sum, 9);
    const inKernels = recording.kernels.reduce((total, kernel) => total + kernel.nativeMilliseconds, 0);
    const outside = recording.calls.filter(({ kernel }) => kernel === null);
    expect(inKernels + outside.reduce((total, call) => total + call.milliseconds, 0)).toBeCloseTo(sum, 9);
    x.dispose();
  });

  it("traces products within operators, and the memory that operators need meanwhile", () => {
    const a = normal([2, 5, 7], 1);
    const b = normal([2, 7, 3], 2);
    const composed = () => tf.dispose(tf.einsum("bij,bjk->bik", a, b));
    expect(flops(profiler().record("tracing", composed))).toBe(2 * 2 * 5 * 7 * 3);
    const large = normal([1000, 100], 3);
    const before = tf.memory() as unknown as { nativeBytes: number };
    const { calls } = profiler().record("tracing", () => tf.dispose(tf.tidy(() => large.mul(2).sum())));
    expect(Math.max(...calls.map(({ peakBytes }) => peakBytes))).toBeGreaterThanOrEqual(
      before.nativeBytes + 4 * 1000 * 100,
    );
    tf.dispose([a, b, large]);
  });

  it("leaves no trace: nothing is held, and nothing is noted, when it is over or has failed", () => {
    const addon = openAddon(addonPathOfTests());
    const x = normal([4, 4], 1);
    const before = addon.info();
    profiler().record("tracing", () => tf.dispose(tf.matMul(x, x)));
    const fail = () =>
      profiler().record("timing", () => {
        throw new Error("the step failed");
      });
    expect(fail).toThrow("the step failed");
    expect(() => addon.stopRecording()).toThrow("nothing is recorded");
    expect(() => addon.startRecording(3 as 1)).toThrow("expected 1 (timing) or 2 (tracing)");
    expect(profiler().record("timing", () => undefined).calls).toEqual([]);
    expect(addon.info()).toEqual(before);
    profiler().phase("nobody listens");
    tf.dispose(tf.matMul(x, x));
    expect(addon.info()).toEqual(before);
    x.dispose();
  });

  it("refuses a recording within a recording", () => {
    const nested = () => profiler().record("timing", () => profiler().record("timing", () => undefined));
    expect(nested).toThrow("a recording is on already");
    expect(profiler().record("timing", () => undefined).calls).toEqual([]);
  });

  it.each(["float32", "bfloat16"] as const)("times a product by itself in %s and frees it", (dtype) => {
    const before = openAddon(addonPathOfTests()).info();
    const layout = { transposeA: true, transposeB: false };
    expect(profiler().productSeconds({ batch: 1, m: 8, k: 16, n: 4, dtype, ...layout })).toBeGreaterThan(0);
    expect(profiler().productSeconds({ batch: 3, m: 8, k: 16, n: 4, dtype, ...layout })).toBeGreaterThan(0);
    expect(openAddon(addonPathOfTests()).info()).toEqual(before);
  });
});
