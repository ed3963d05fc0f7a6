import { expect, test } from "vitest";
import { splitBatch } from "./batch.js";
import { MlflowInputError } from "./errors.js";
import { limits } from "./limits.js";
import { checkKey, type Metric, type Param, type Tag } from "./validation.js";

function metrics(count: number): Metric[] {
  return Array.from({ length: count }, (_, step) => ({
    key: "loss",
    value: step / 3,
    timestamp: 1000 + step,
    step,
  }));
}
function params(count: number, value = "v"): Param[] {
  return Array.from({ length: count }, (_, index) => ({ key: `p${index}`, value }));
}
function tags(count: number, value = "v"): Tag[] {
  return Array.from({ length: count }, (_, index) => ({ key: `t${index}`, value }));
}

function refusal(action: () => unknown): MlflowInputError {
  try {
    action();
  } catch (error) {
    if (error instanceof MlflowInputError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

test("requests stay within every limit, and together they are the batch, in order", () => {
  const batch = {
    metrics: metrics(2500),
    params: params(250, "x".repeat(6000)),
    tags: tags(130, "ü".repeat(4000)),
  };
  const requests = splitBatch(batch);
  for (const request of requests) {
    expect(request.metrics.length).toBeLessThanOrEqual(limits.metricsPerBatch);
    expect(request.params.length).toBeLessThanOrEqual(limits.paramsPerBatch);
    expect(request.tags.length).toBeLessThanOrEqual(limits.tagsPerBatch);
    expect(request.metrics.length + request.params.length + request.tags.length).toBeLessThanOrEqual(
      limits.entriesPerBatch,
    );
    const body = JSON.stringify({ run_id: "0".repeat(32), ...request });
    expect(Buffer.byteLength(body, "utf8")).toBeLessThanOrEqual(limits.bytesPerBatch);
  }
  expect(requests.flatMap((request) => request.metrics)).toStrictEqual(batch.metrics);
  expect(requests.flatMap((request) => request.params)).toStrictEqual(batch.params);
  expect(requests.flatMap((request) => request.tags)).toStrictEqual(batch.tags);
});

test("few and full requests", () => {
  expect(splitBatch({})).toStrictEqual([]);
  expect(splitBatch({ metrics: metrics(1000) })).toHaveLength(1);
  expect(splitBatch({ metrics: metrics(1001) })).toHaveLength(2);
  expect(splitBatch({ metrics: metrics(900), params: params(60), tags: tags(40) })).toHaveLength(1);
  expect(splitBatch({ metrics: metrics(1000), params: params(1) })).toHaveLength(2);
});

test("a param twice: the same value is sent once, another is refused", () => {
  const [request] = splitBatch({ params: [...params(2), { key: "p0", value: "v" }] });
  expect(request?.params.map((param) => param.key)).toStrictEqual(["p0", "p1"]);
  const error = refusal(() => splitBatch({ params: [...params(2), { key: "p0", value: "w" }] }));
  expect(error.message).toBe('params[2]: p0 is given twice, as "v" and as "w"');
});

test.each([
  ["value", { value: Number.NaN }],
  ["value", { value: Number.POSITIVE_INFINITY }],
  ["timestamp", { timestamp: 1.5 }],
  ["timestamp", { timestamp: -1 }],
  ["step", { step: 0.5 }],
  ["step", { step: 2 ** 63 }],
])("a metric whose %s would spoil the request is refused: %o", (field, change) => {
  const batch = { metrics: [...metrics(3), { ...metrics(1)[0]!, ...change }] };
  expect(refusal(() => splitBatch(batch)).field).toBe(`metrics[3].${field}`);
});

test("texts that a server would cut are refused; length counts characters", () => {
  expect(refusal(() => splitBatch({ params: params(1, "x".repeat(6001)) })).field).toBe("params[0].value");
  expect(refusal(() => splitBatch({ tags: tags(1, "x".repeat(8001)) })).field).toBe("tags[0].value");
  expect(splitBatch({ params: params(1, "𝔏".repeat(6000)) })).toHaveLength(1);
});

test.each([
  "",
  "a#b",
  "a=b",
  "a,b",
  "a\nb",
  "a|b",
  "a+b",
  "a(b)",
  "a'b",
  "/a",
  "a//b",
  "a/",
  ".",
  "..",
  "../a",
  "a/../b",
  "x".repeat(251),
])("the name %j is refused", (key) => {
  expect(refusal(() => checkKey(key, "key")).field).toBe("key");
});

test.each(["loss", "evaluation/loss", "a b", "a.b-c_d", "größe", "日本", "a/b/c", ".a", "x".repeat(250)])(
  "the name %j is accepted",
  (key) => {
    expect(() => checkKey(key, "key")).not.toThrow();
  },
);
