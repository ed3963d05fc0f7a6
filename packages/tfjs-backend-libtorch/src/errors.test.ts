import * as tf from "@tensorflow/tfjs";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { addonPathOfTests, runKernels, useLibtorch } from "../test/libtorch.js";
import { type Addon, openAddon } from "./addon.js";

describe("errors of libtorch", () => {
  let addon: Addon;

  beforeAll(async () => {
    await useLibtorch();
    addon = openAddon(addonPathOfTests());
  });

  // Whatever went wrong, the process goes on computing.
  afterEach(() => {
    expect(Array.from(tf.add(tf.tensor1d([1, 2]), 1).dataSync())).toEqual([2, 3]);
  });

  const thrown = (run: () => unknown): Error & { code?: string } => {
    try {
      run();
    } catch (error) {
      return error as Error;
    }
    throw new Error("nothing was thrown");
  };

  it("name the operator and give one line, without a trace of C++", () => {
    const x = tf.ones([2, 3]);
    const error = thrown(() => runKernels("EspalierLinear", { x, weight: x }, { weightLayout: "in_out" }));
    expect(error).toBeInstanceOf(Error);
    expect(error.message).toBe("aten::mm: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)");
    expect(error.code).toBe("ERR_LIBTORCH");
  });

  it("come for a wrong dtype", () => {
    const inputs = { x: tf.ones([2, 2]), weight: tf.ones([2, 2], "int32") };
    expect(() => runKernels("EspalierLinear", inputs, { weightLayout: "in_out" })).toThrow(
      /aten::mm: .*same dtype/,
    );
  });

  it("come for a string tensor", () => {
    expect(() => runKernels("EspalierGelu", { x: tf.tensor1d(["a"]) }, { approximate: "none" })).toThrow(
      "EspalierGelu: string tensors are not supported",
    );
  });

  it("come for a disposed tensor", () => {
    const x = tf.ones([2]);
    x.dispose();
    expect(() => tf.add(x, 1)).toThrow(/disposed/);
    expect(() => runKernels("EspalierGelu", { x }, { approximate: "none" })).toThrow(Error);
  });

  it("come for an absurd allocation, with a code of its own", () => {
    const error = thrown(() => tf.fill([1e9, 1e7], 1));
    expect(error.message).toMatch(/aten::full: .*allocate/);
    expect(error.code).toBe("ERR_LIBTORCH_MEMORY");
  });

  it("come for an unknown operator", () => {
    expect(() => addon.operator("aten::no_such_thing", "")).toThrow(
      "aten::no_such_thing: this version of libtorch has no such operator",
    );
  });

  it("come for handles that never existed, were freed, or were freed and used again", () => {
    const add = addon.operator("aten::add", "Tensor");
    const one = () => addon.fromData(Float32Array.of(1), [1], "float32", "cpu");
    const stale = one();
    addon.free(stale);
    const reused = one();
    for (const bad of [stale, -1, 1e15, 2 ** 40, 0.5, Number.NaN]) {
      expect(() => addon.call(add, [bad, reused])).toThrow(/aten::add.Tensor: argument 'self'/);
    }
    expect(() => addon.free(stale)).toThrow(/disposed or never existed/);
    expect(() => addon.describe(stale)).toThrow(/disposed or never existed/);
    addon.free(reused);
  });

  it("come for arguments of the wrong kind, by the argument's name", () => {
    const add = addon.operator("aten::add", "Tensor");
    const x = addon.fromData(Float32Array.of(1), [1], "float32", "cpu");
    const sum = addon.operator("aten::sum", "dim_IntList");
    expect(() => addon.call(add, [x])).toThrow("aten::add.Tensor: argument 'other' is missing");
    expect(() => addon.call(add, [x, "x"])).toThrow("aten::add.Tensor: argument 'other': expected a tensor");
    expect(() => addon.call(add, [x, x, "y"])).toThrow(
      "aten::add.Tensor: argument 'alpha': expected a number",
    );
    expect(() => addon.call(add, [x, x, 1, 1])).toThrow("aten::add.Tensor: takes 3 arguments, got 4");
    expect(() => addon.call(sum, [x, [0.5]])).toThrow(
      "aten::sum.dim_IntList: argument 'dim': expected an integer",
    );
    expect(() => addon.call(sum, [x, 0])).toThrow("aten::sum.dim_IntList: argument 'dim': expected an array");
    expect(() => addon.call(sum, [x, [0], 1])).toThrow("argument 'keepdim': expected a boolean");
    expect(() => addon.call(sum, [x, [0], false, "float33"])).toThrow(
      "argument 'dtype': unknown dtype 'float33'",
    );
    expect(() => addon.call(999_999, [x])).toThrow("no operator with this index");
    expect(() => addon.call(add, "x" as never)).toThrow("aten::add.Tensor: expected an array");
    addon.free(x);
  });

  it("come for data that does not fit its shape", () => {
    expect(() => addon.fromData(Float32Array.of(1, 2), [3], "float32", "cpu")).toThrow(
      /needs 12 bytes, got 8/,
    );
    expect(() => addon.fromData([1] as never, [1], "float32", "cpu")).toThrow("expected a typed array");
    const x = addon.fromData(Float32Array.of(1, 2), [2], "float32", "cpu");
    expect(() => addon.toData(x, new Float32Array(3))).toThrow(/has 8 bytes, the array 12/);
    addon.free(x);
  });

  it("leave no native tensor behind", () => {
    const one = tf.ones([1]);
    const fail = () => {
      expect(() =>
        runKernels("EspalierAttention", { q: one, k: one, v: one }, { causal: true, scale: 1 }),
      ).toThrow(Error);
      expect(() => tf.scatterND(tf.tensor2d([[7]], [1, 1], "int32"), one, [2])).toThrow(/aten::index_add/);
    };
    tf.tidy(fail);
    const { handles } = addon.info();
    for (let index = 0; index < 10; index++) tf.tidy(fail);
    expect(addon.info().handles).toBe(handles);
  });
});
