import { isValidKey, splitBatch } from "@espalier/mlflow-js-client";
import { expect, test } from "vitest";
import { flattenParams, longParams, mlflowKey } from "./mlflow-names.js";
import { mlflowBatch } from "./mlflow-records.js";

test("a definition becomes dotted params", () => {
  const params = flattenParams({
    name: "apollo",
    seed: 42,
    growth: { schedule: { use: "stages", depths: [3, 6, 12], at: [0, 0.125] }, sampler: { use: "lvps" } },
    plugins: [],
    start: null,
    options: {},
    training: { optimizer: { epsilon: 1e-8 }, clip: true },
  });
  expect(Object.fromEntries(params.map(({ key, value }) => [key, value]))).toStrictEqual({
    name: "apollo",
    seed: "42",
    "growth.schedule.use": "stages",
    "growth.schedule.depths": "[3,6,12]",
    "growth.schedule.at": "[0,0.125]",
    "growth.sampler.use": "lvps",
    plugins: "[]",
    start: "null",
    options: "{}",
    "training.optimizer.epsilon": "1e-8",
    "training.clip": "true",
  });
});

test("names and values that MLflow would refuse or cut become ones that it takes, still distinct", () => {
  const definition = {
    "a/b#": 1,
    "a b_": 2,
    a_b_: 3,
    "a(b)": 4,
    "..": 5,
    "": 6,
    long: "x".repeat(9000),
  };
  const params = flattenParams(definition);
  expect(() => splitBatch({ params })).not.toThrow();
  expect(new Set(params.map((param) => param.key)).size).toBe(7);
  expect(params.at(-1)?.value).toMatch(/^x+… \(9000 characters in long-params\.json\)$/);
  expect(Array.from(params.at(-1)!.value)).toHaveLength(6000);
  expect(longParams(definition)).toStrictEqual({ long: "x".repeat(9000) });
  expect(longParams({ short: "x".repeat(6000) })).toBeNull();
  for (const name of ["/", ".", "a//b", "x".repeat(300), "a\nb", "日本:語"])
    expect(isValidKey(mlflowKey(name))).toBe(true);
});

test("numbers that are not finite become tags", () => {
  const line = {
    step: 7,
    time: 1000,
    loss: Number.NaN,
    gradientNorm: Number.POSITIVE_INFINITY,
    depth: 3,
    stage: 0,
    uniqueLayers: 3,
    learningRate: 1e-3,
    flops: 1e20,
    tokens: 10,
    seconds: 1,
    tokensPerSecond: 10,
  };
  const { metrics, tags } = mlflowBatch(
    [line],
    [{ event: "diverged", step: 8, time: 1001, loss: 2, gradientNorm: Number.POSITIVE_INFINITY }],
  );
  expect(() => splitBatch({ metrics, tags })).not.toThrow();
  expect(metrics?.map((metric) => metric.key)).not.toContain("loss");
  expect(metrics).toContainEqual({ key: "flops", value: 1e20, timestamp: 1000, step: 7 });
  expect(tags).toStrictEqual([
    { key: "espalier.nonFinite.loss", value: "NaN at step 7" },
    { key: "espalier.nonFinite.gradientNorm", value: "Infinity at step 7" },
    { key: "espalier.diverged", value: "loss 2, gradient norm Infinity at step 8" },
  ]);
});
