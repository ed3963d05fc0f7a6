import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { MlflowClient } from "./client.js";
import {
  MlflowAlreadyExistsError,
  MlflowApiError,
  MlflowAuthenticationError,
  MlflowConnectionError,
  MlflowInputError,
  MlflowNotFoundError,
  MlflowResponseError,
} from "./errors.js";
import {
  FaultyProxy,
  type Interference,
  installMlflow,
  RealServer,
  runToEnd,
  selfSigned,
  serverVersions,
} from "./real-server.test-support.js";

const versions = Object.keys(serverVersions) as (keyof typeof serverVersions)[];

describe.each(versions)("MLflow %s", (version) => {
  let server: RealServer | undefined;
  let missing: string | undefined;
  let client: MlflowClient;
  let experimentId: string;

  beforeAll(async () => {
    const installation = await installMlflow(version);
    if ("missing" in installation) {
      missing = installation.missing;
      console.warn(`skipped: ${missing}`);
      return;
    }
    server = await RealServer.start(installation.python);
    client = new MlflowClient({ trackingUri: server.address, retries: 3, backoffSeconds: 0.05 });
    experimentId = (await client.getOrCreateExperiment("client")).experimentId;
  }, 900_000);

  afterAll(async () => {
    await server?.stop();
  });

  beforeEach(({ skip }) => {
    skip(missing !== undefined, missing);
  });

  async function withProxy<Result>(
    interfere: (number: number, url: string, headers: NodeJS.Dict<string | string[]>) => Interference,
    use: (proxy: FaultyProxy) => Promise<Result>,
  ): Promise<Result> {
    const proxy = await FaultyProxy.start(server!.address, (request, number) =>
      interfere(number, request.url ?? "", request.headers),
    );
    try {
      return await use(proxy);
    } finally {
      await proxy.stop();
    }
  }

  const broken: Interference = {
    status: 500,
    text: "<html>broken</html>",
    headers: { "content-type": "text/html" },
  };

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

    const { code, output } = await runToEnd(server!.python, [
      "-c",
      `import json, sys
from mlflow import MlflowClient
client = MlflowClient("${server!.address}")
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

  test("2 500 points, 150 params and 120 tags arrive in split requests, and again without doubling", async () => {
    await withProxy(
      () => undefined,
      async (proxy) => {
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
      },
    );
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

  test("a run whose answer got lost is not made twice", async () => {
    for (const interference of ["break after", "break before", broken] as const) {
      const value = `lost ${typeof interference === "string" ? interference : "500"}`;
      await withProxy(
        (number, url) => (url.endsWith("runs/create") && number === 2 ? interference : undefined),
        async (proxy) => {
          const through = new MlflowClient({ trackingUri: proxy.address, retries: 2, backoffSeconds: 0.01 });
          const run = await through.createRun({ experimentId, uniqueTag: { key: "key", value } });
          expect(run.tags.key).toBe(value);
          expect(proxy.requests.filter((request) => request.includes("runs/create")).length).toBe(
            interference === "break after" ? 1 : 2,
          );
        },
      );
      const { items } = await client.searchRuns({
        experimentIds: [experimentId],
        filter: `tags.key = '${value}'`,
      });
      expect(items).toHaveLength(1);
    }
  });

  test("without a unique tag a run is made at most once", async () => {
    await withProxy(
      (_, url) => (url.endsWith("runs/create") ? "break after" : undefined),
      async (proxy) => {
        const through = new MlflowClient({ trackingUri: proxy.address, retries: 3, backoffSeconds: 0.01 });
        await expect(through.createRun({ experimentId })).rejects.toThrow(MlflowConnectionError);
        expect(proxy.requests).toHaveLength(1);
      },
    );
  });

  test("every third request fails with 500, and everything arrives", async () => {
    await withProxy(
      (number) => (number % 3 === 0 ? broken : undefined),
      async (proxy) => {
        const through = new MlflowClient({ trackingUri: proxy.address, retries: 3, backoffSeconds: 0.01 });
        const { experimentId: id } = await through.getOrCreateExperiment("thirds");
        const run = await through.createRun({ experimentId: id, uniqueTag: { key: "k", value: "thirds" } });
        const metrics = Array.from({ length: 5500 }, (_, step) => ({
          key: "m",
          value: step,
          timestamp: step,
          step,
        }));
        await through.logBatch(run.runId, { metrics });
        expect(await through.metricHistory(run.runId, "m")).toStrictEqual(metrics);
      },
    );
  });

  test("429 with Retry-After is waited for; 501 and 400 are not retried", async () => {
    let first = 0;
    await withProxy(
      (number) => {
        if (number > 1) return undefined;
        first = Date.now();
        return { status: 429, text: "slow down", headers: { "retry-after": "1" } };
      },
      async (proxy) => {
        const through = new MlflowClient({ trackingUri: proxy.address, backoffSeconds: 0.001 });
        await through.getExperiment(experimentId);
        expect(Date.now() - first).toBeGreaterThanOrEqual(990);
      },
    );
    await withProxy(
      () => ({ status: 501, text: "not here" }),
      async (proxy) => {
        const through = new MlflowClient({ trackingUri: proxy.address, backoffSeconds: 0.001 });
        await expect(through.getExperiment(experimentId)).rejects.toThrow(MlflowResponseError);
        expect(proxy.requests).toHaveLength(1);
      },
    );
  });

  test("a proxy that wants a token gets it, and says so without one", async () => {
    await withProxy(
      (_, __, headers) =>
        headers.authorization === "Bearer sesame" ? undefined : { status: 401, text: "<html>log in</html>" },
      async (proxy) => {
        const open = MlflowClient.fromEnvironment({
          MLFLOW_TRACKING_URI: proxy.address,
          MLFLOW_TRACKING_TOKEN: "sesame",
        });
        expect((await open.getExperiment(experimentId)).name).toBe("client");
        const closed = new MlflowClient({ trackingUri: proxy.address, token: "wrong" });
        const error = await closed.getExperiment(experimentId).catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(MlflowAuthenticationError);
        expect(String(error)).toContain("MLFLOW_TRACKING_TOKEN");
        expect(String(error)).not.toContain("wrong");
      },
    );
  });

  test("a server that does not answer in time", async () => {
    await withProxy(
      () => "never answer",
      async (proxy) => {
        const through = new MlflowClient({
          trackingUri: proxy.address,
          timeoutSeconds: 0.2,
          retries: 1,
          backoffSeconds: 0,
        });
        const error = await through.getExperiment(experimentId).catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(MlflowConnectionError);
        expect(error).toMatchObject({ code: "ETIMEDOUT" });
        expect(proxy.requests).toHaveLength(2);
      },
    );
  });

  test("a call is ended by its signal at once", async () => {
    await withProxy(
      () => "never answer",
      async (proxy) => {
        const through = new MlflowClient({ trackingUri: proxy.address });
        const start = Date.now();
        const call = through.getExperiment(experimentId, { signal: AbortSignal.timeout(100) });
        await expect(call).rejects.toMatchObject({ name: "TimeoutError" });
        expect(Date.now() - start).toBeLessThan(5000);
      },
    );
  });

  test("refused connections, unknown hosts and servers that are not MLflow are told apart", async () => {
    const nobody = new MlflowClient({ trackingUri: "http://127.0.0.1:1", retries: 0 });
    await expect(nobody.serverVersion()).rejects.toMatchObject({ code: "ECONNREFUSED" });
    const nowhere = new MlflowClient({ trackingUri: "http://no-such-host.invalid", retries: 0 });
    await expect(nowhere.serverVersion()).rejects.toBeInstanceOf(MlflowConnectionError);

    const other = createServer((_, response) => response.end("<!doctype html><title>Welcome</title>"));
    other.listen(0, "127.0.0.1");
    await once(other, "listening");
    const page = new MlflowClient({
      trackingUri: `http://127.0.0.1:${(other.address() as AddressInfo).port}`,
    });
    await expect(page.serverVersion()).rejects.toThrow(MlflowResponseError);
    await expect(page.getExperimentByName("a")).rejects.toThrow(
      /a web page instead of JSON; is it an MLflow server/,
    );
    other.closeAllConnections();
    other.close();
  });

  test("an answer with other fields is refused", async () => {
    await withProxy(
      () => ({ status: 200, text: '{"run":{"info":{"run_id":7}}}' }),
      async (proxy) => {
        const through = new MlflowClient({ trackingUri: proxy.address });
        await expect(through.getRun("a")).rejects.toThrow(/with other fields: run\.info\.run_id/);
      },
    );
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

  test("https: a certificate that nobody vouches for is refused, until it is known or all are accepted", async () => {
    const made = await selfSigned(server!.python);
    const tls = { ...made, ca: made.cert, requestCert: true };
    const proxy = await FaultyProxy.start(server!.address, () => undefined, tls);
    const file = join(mkdtempSync(join(tmpdir(), "espalier-tls-")), "both.pem");
    writeFileSync(file, `${made.cert}${made.key}`);
    try {
      const as = (environment: Record<string, string | undefined>) =>
        MlflowClient.fromEnvironment({
          MLFLOW_TRACKING_URI: proxy.address,
          MLFLOW_HTTP_REQUEST_MAX_RETRIES: "0",
          ...environment,
        });
      await expect(as({}).getExperiment(experimentId)).rejects.toThrow(/its certificate is self-signed/);
      const shown = { MLFLOW_TRACKING_CLIENT_CERT_PATH: file };
      for (const more of [
        { MLFLOW_TRACKING_INSECURE_TLS: "true" },
        { MLFLOW_TRACKING_SERVER_CERT_PATH: file },
      ]) {
        expect((await as({ ...shown, ...more }).getExperiment(experimentId)).name).toBe("client");
        // This server wants to know its clients.
        await expect(as(more).getExperiment(experimentId)).rejects.toBeInstanceOf(MlflowConnectionError);
      }
    } finally {
      await proxy.stop();
      rmSync(dirname(file), { recursive: true });
    }
  });

  test("the environment's proxy is used, for http and https, unless NO_PROXY says otherwise", async () => {
    const tls = await selfSigned(server!.python);
    const secure = await FaultyProxy.start(server!.address, () => undefined, tls);
    const proxy = await FaultyProxy.start(server!.address, () => undefined);
    const artifact = randomBytes(300_000);
    try {
      for (const address of [server!.address, secure.address]) {
        vi.stubEnv(address.startsWith("https") ? "HTTPS_PROXY" : "HTTP_PROXY", proxy.address);
        vi.stubEnv("NO_PROXY", "elsewhere.example");
        const before = proxy.requests.length;
        const through = new MlflowClient({ trackingUri: address, insecureTls: true, retries: 0 });
        const run = await through.createRun({ experimentId });
        await through.artifacts.upload(run, "a.bin", artifact);
        expect((await through.artifacts.read(run, "a.bin")).equals(artifact)).toBe(true);
        expect(proxy.requests.length).toBeGreaterThan(before);
        const seen = proxy.requests.length;
        vi.stubEnv("NO_PROXY", "127.0.0.1");
        const past = new MlflowClient({ trackingUri: address, insecureTls: true, retries: 0 });
        expect((await past.getRun(run.runId)).runId).toBe(run.runId);
        expect(proxy.requests).toHaveLength(seen);
        past.close();
        through.close();
      }
      vi.stubEnv("NO_PROXY", "");
      vi.stubEnv("HTTP_PROXY", "http://127.0.0.1:1");
      const dead = new MlflowClient({ trackingUri: server!.address, retries: 0 });
      await expect(dead.getExperiment(experimentId)).rejects.toThrow(
        /through the proxy 127\.0\.0\.1:1: nothing is listening there/,
      );
    } finally {
      vi.unstubAllEnvs();
      await proxy.stop();
      await secure.stop();
    }
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
        `process.env.MLFLOW_TRACKING_URI = ${JSON.stringify(server!.address)}; await import("./example.mjs");`,
      );
      const { code, output } = await runToEnd(process.execPath, [join(folder, "start.mjs")]);
      expect(code, output).toBe(0);
      expect(output.trim()).toBe(expected);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
