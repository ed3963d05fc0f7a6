import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { describe, expect, test } from "vitest";
import { MlflowClient } from "./client.js";
import { MlflowAlreadyExistsError, MlflowApiError, MlflowInputError, MlflowNotFoundError } from "./errors.js";
import { FaultyProxy, runToEnd, serverVersions } from "./real-server.test-support.js";
import { withMlflowServer } from "./with-mlflow.test-support.js";

const versions = Object.keys(serverVersions) as (keyof typeof serverVersions)[];

describe.each(versions)("MLflow %s", (version) => {
  let client: MlflowClient;
  let experimentId: string;

  const mlflow = withMlflowServer(version, async (server) => {
    client = new MlflowClient({ trackingUri: server.address, retries: 3, backoffSeconds: 0.05 });
    experimentId = (await client.getOrCreateExperiment("client")).experimentId;
  });

  test("says the server's version", async () => {
    expect(await client.serverVersion()).toBe(version);
  });

  test("what is logged is what MLflow's own client reads, value by value", async () => {
    const start = 1_700_000_000_123;
    const run = await client.createRun({
      experimentId,
      runName: "read back",
      startTime: start,
      tags: [{ key: "mlflow.source.name", value: "test" }],
      uniqueTag: { key: "espalier.runId", value: "it's r-1" },
    });
    const values = [0.1, Math.fround(0.1), 5e-324, 1.7e308, -0.25, 1 / 3, 123456789.123456, 1e21];
    const metrics = values.map((value, step) => ({
      key: "evaluation/loss",
      value,
      timestamp: start + step,
      step,
    }));
    const params = [
      { key: "model.depth", value: "12" },
      { key: "größe", value: "日本 'quoted' \"twice\"" },
      { key: "empty", value: "" },
      { key: "long", value: "x".repeat(6000) },
    ];
    await client.logBatch(run.runId, { metrics, params, tags: [{ key: "note", value: "line 1\nline 2" }] });
    await client.updateRun(run.runId, { status: "FINISHED", endTime: start + 60_000 });

    const { code, output } = await runToEnd(mlflow.server.python, [
      "-c",
      `import json, sys
from mlflow import MlflowClient
client = MlflowClient("${mlflow.server.address}")
run = client.get_run("${run.runId}")
points = client.get_metric_history("${run.runId}", "evaluation/loss")
print("RESULT" + json.dumps({"status": run.info.status, "start": run.info.start_time, "end": run.info.end_time,
  "name": run.info.run_name, "params": run.data.params, "tags": run.data.tags,
  "points": [[p.key, float.hex(p.value), p.timestamp, p.step] for p in points],
  "expected": [float.hex(float(v)) for v in json.loads(sys.argv[1])]}))`,
      JSON.stringify(values),
    ]);
    expect(code, output).toBe(0);
    const seen = JSON.parse(output.slice(output.indexOf("RESULT") + 6));
    expect(seen).toMatchObject({ status: "FINISHED", start, end: start + 60_000, name: "read back" });
    expect(seen.params).toStrictEqual(Object.fromEntries(params.map(({ key, value }) => [key, value])));
    expect(seen.tags).toMatchObject({
      "espalier.runId": "it's r-1",
      "mlflow.source.name": "test",
      "mlflow.runName": "read back",
      note: "line 1\nline 2",
    });
    expect(seen.points).toStrictEqual(
      metrics.map((metric, index) => [metric.key, seen.expected[index], metric.timestamp, metric.step]),
    );

    const ours = await client.metricHistory(run.runId, "evaluation/loss");
    expect(ours).toStrictEqual(metrics);
    const read = await client.getRun(run.runId);
    expect(read.params).toStrictEqual(seen.params);
    expect(read.metrics["evaluation/loss"]).toStrictEqual(metrics.at(-1));
    expect(read.status).toBe("FINISHED");
  });

  test("2 500 points, 150 params and 120 tags arrive in split requests, and again without doubling", async ({
    onTestFinished,
  }) => {
    const proxy = await FaultyProxy.start(mlflow.server.address, () => undefined);
    onTestFinished(() => proxy.stop());
    const through = new MlflowClient({ trackingUri: proxy.address });
    const run = await through.createRun({ experimentId });
    const metrics = Array.from({ length: 2500 }, (_, step) => ({
      key: "loss",
      value: Math.sin(step),
      timestamp: 1_700_000_000_000 + step,
      step,
    }));
    const params = Array.from({ length: 150 }, (_, index) => ({
      key: `p${index}`,
      value: String(index),
    }));
    const tags = Array.from({ length: 120 }, (_, index) => ({ key: `t${index}`, value: String(index) }));
    for (let time = 0; time < 2; time++) await through.logBatch(run.runId, { metrics, params, tags });
    const batches = proxy.requests.filter((request) => request.includes("log-batch"));
    expect(batches).toHaveLength(2 * 5);
    expect(await through.metricHistory(run.runId, "loss")).toStrictEqual(metrics);
    const read = await through.getRun(run.runId);
    expect(Object.keys(read.params)).toHaveLength(150);
    expect(Object.keys(read.tags).filter((key) => /^t\d/.test(key))).toHaveLength(120);
  });

  test("a batch with one bad entry sends nothing", async () => {
    const run = await client.createRun({ experimentId });
    const good = { key: "loss", value: 1, timestamp: 1, step: 1 };
    for (const bad of [
      { metrics: [good, { ...good, value: Number.NaN }] },
      { metrics: [good], params: [{ key: "a#b", value: "1" }] },
      { metrics: [good], tags: [{ key: "note", value: "x".repeat(8001) }] },
    ])
      await expect(client.logBatch(run.runId, bad)).rejects.toThrow(MlflowInputError);
    expect((await client.getRun(run.runId)).metrics).toStrictEqual({});
  });

  test("an experiment asked for by eight at once is made once", async () => {
    const asked = await Promise.all(Array.from({ length: 8 }, () => client.getOrCreateExperiment("raced")));
    expect(new Set(asked.map((experiment) => experiment.experimentId)).size).toBe(1);
    expect(asked[0]).toMatchObject({ name: "raced", lifecycleStage: "active" });
    await expect(client.createExperiment("raced")).rejects.toThrow(MlflowAlreadyExistsError);
    const { items } = await client.searchExperiments({ filter: "name = 'raced'" });
    expect(items.map((experiment) => experiment.experimentId)).toStrictEqual([asked[0]!.experimentId]);
  });

  test("a deleted experiment is named as such, and can be restored", async () => {
    const { experimentId: id } = await client.getOrCreateExperiment("to be deleted");
    await client.deleteExperiment(id);
    await expect(client.getOrCreateExperiment("to be deleted")).rejects.toThrow(
      /was deleted on .*restore it/,
    );
    await client.restoreExperiment(id);
    expect((await client.getOrCreateExperiment("to be deleted")).experimentId).toBe(id);
  });

  test("runs are found page by page, by tag, and under their parent", async () => {
    const { experimentId: id } = await client.getOrCreateExperiment("pages");
    const parent = await client.createRun({ experimentId: id, runName: "parent" });
    for (let index = 0; index < 5; index++)
      await client.createRun({
        experimentId: id,
        runName: `child ${index}`,
        startTime: 1000 + index,
        parentRunId: parent.runId,
        uniqueTag: { key: "espalier.runId", value: `r-${index}` },
      });
    const names: (string | undefined)[] = [];
    for await (const run of client.allRuns({
      experimentIds: [id],
      filter: `tags.mlflow.parentRunId = '${parent.runId}'`,
      orderBy: ["attributes.start_time ASC"],
      maxResults: 2,
    }))
      names.push(run.runName);
    expect(names).toStrictEqual(["child 0", "child 1", "child 2", "child 3", "child 4"]);
    const found = await client.findRunByTag(id, { key: "espalier.runId", value: "r-3" });
    expect(found?.runName).toBe("child 3");
    expect(await client.findRunByTag(id, { key: "espalier.runId", value: "r-9" })).toBeUndefined();
    await client.deleteRun(found!.runId);
    expect(await client.findRunByTag(id, { key: "espalier.runId", value: "r-3" })).toBeUndefined();
    await client.restoreRun(found!.runId);
    await client.setTag(found!.runId, { key: "note", value: "back" });
    expect((await client.getRun(found!.runId)).tags.note).toBe("back");
    await client.deleteTag(found!.runId, "note");
    expect((await client.getRun(found!.runId)).tags.note).toBeUndefined();
  });

  test("the server's refusals come with its code", async () => {
    await expect(client.getRun("0".repeat(32))).rejects.toThrow(MlflowNotFoundError);
    await expect(client.getExperiment("424242")).rejects.toThrow(MlflowNotFoundError);
    expect(await client.getExperimentByName("nowhere")).toBeUndefined();
    const run = await client.createRun({ experimentId });
    await client.logBatch(run.runId, { params: [{ key: "lr", value: "0.1" }] });
    const conflict = await client
      .logBatch(run.runId, { params: [{ key: "lr", value: "0.2" }] })
      .catch((error: unknown) => error);
    expect(conflict).toBeInstanceOf(MlflowApiError);
    expect(conflict).toMatchObject({ code: "INVALID_PARAMETER_VALUE", status: 400 });
    await expect(
      // @ts-expect-error a server would ignore this status and answer 200
      client.updateRun(run.runId, { status: "DONE" }),
    ).rejects.toThrow(MlflowInputError);
  });

  test("points that are sent again beside new ones, in any order of keys, are kept once", async () => {
    const run = await client.createRun({ experimentId });
    const points = (first: number, last: number) =>
      Array.from({ length: last - first }, (_, index) => {
        const step = first + index;
        return ["a", "b", "c"].map((key) => ({ key, value: step / 3, timestamp: 1000 + step, step }));
      }).flat();
    const rare = { key: "rare", value: 1, timestamp: 5, step: 7 };
    await client.logBatch(run.runId, { metrics: [...points(0, 60), rare] });
    const tags = [{ key: "again", value: "yes" }];
    await client.logBatch(run.runId, { metrics: [...points(30, 120), rare, ...points(120, 130)], tags });
    for (const key of ["a", "b", "c"])
      expect(await client.metricHistory(run.runId, key)).toStrictEqual(
        points(0, 130).filter((point) => point.key === key),
      );
    expect(await client.metricHistory(run.runId, "rare")).toStrictEqual([rare]);
    expect((await client.getRun(run.runId)).tags.again).toBe("yes");
  });

  test("experiments are renamed, and found page by page", async () => {
    const id = await client.createExperiment("to be renamed", [{ key: "pages", value: "yes" }]);
    for (const name of ["second", "third"])
      await client.createExperiment(name, [{ key: "pages", value: "yes" }]);
    await client.renameExperiment(id, "renamed");
    expect((await client.getExperiment(id)).name).toBe("renamed");
    const names: string[] = [];
    for await (const found of client.allExperiments({ filter: "tags.pages = 'yes'", maxResults: 2 }))
      names.push(found.name);
    expect(names.sort()).toStrictEqual(["renamed", "second", "third"]);
  });

  test("the README's example prints what it says", async () => {
    const readme = readFileSync(join(import.meta.dirname, "..", "README.md"), "utf8");
    const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1];
    const expected = /^\/\/ (.*)$/m.exec(example ?? "")?.[1];
    const folder = mkdtempSync(join(tmpdir(), "espalier-readme-"));
    try {
      const script = join(folder, "example.mjs");
      await build({
        stdin: { contents: example ?? "", resolveDir: import.meta.dirname, loader: "ts" },
        bundle: true,
        platform: "node",
        format: "esm",
        conditions: ["espalier-source"],
        // For what is CommonJS among what it brings along.
        banner: { js: 'import { createRequire } from "node:module"; const require = createRequire("/");' },
        outfile: script,
      });
      writeFileSync(
        join(folder, "start.mjs"),
        `process.env.MLFLOW_TRACKING_URI = ${JSON.stringify(mlflow.server.address)}; await import("./example.mjs");`,
      );
      const { code, output } = await runToEnd(process.execPath, [join(folder, "start.mjs")]);
      expect(code, output).toBe(0);
      expect(output.trim()).toBe(expected);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
