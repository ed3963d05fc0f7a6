import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { MlflowClient } from "./client.js";
import { MlflowAuthenticationError, MlflowConnectionError, MlflowResponseError } from "./errors.js";
import { FaultyProxy, type Interference, selfSigned, serverVersions } from "./real-server.test-support.js";
import { withMlflowServer } from "./with-mlflow.test-support.js";

const versions = Object.keys(serverVersions) as (keyof typeof serverVersions)[];

describe.each(versions)("MLflow %s", (version) => {
  let client: MlflowClient;
  let experimentId: string;

  const mlflow = withMlflowServer(version, async (server) => {
    client = new MlflowClient({ trackingUri: server.address, retries: 3, backoffSeconds: 0.05 });
    experimentId = (await client.getOrCreateExperiment("client")).experimentId;
  });

  async function withProxy<Result>(
    interfere: (number: number, url: string, headers: NodeJS.Dict<string | string[]>) => Interference,
    use: (proxy: FaultyProxy) => Promise<Result>,
  ): Promise<Result> {
    const proxy = await FaultyProxy.start(mlflow.server.address, (request, number) =>
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

  test("https: a certificate that nobody vouches for is refused, until it is known or all are accepted", async () => {
    const made = await selfSigned(mlflow.server.python);
    const tls = { ...made, ca: made.cert, requestCert: true };
    const proxy = await FaultyProxy.start(mlflow.server.address, () => undefined, tls);
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
    const tls = await selfSigned(mlflow.server.python);
    const secure = await FaultyProxy.start(mlflow.server.address, () => undefined, tls);
    const proxy = await FaultyProxy.start(mlflow.server.address, () => undefined);
    const artifact = randomBytes(300_000);
    try {
      for (const address of [mlflow.server.address, secure.address]) {
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
      const dead = new MlflowClient({ trackingUri: mlflow.server.address, retries: 0 });
      await expect(dead.getExperiment(experimentId)).rejects.toThrow(
        /through the proxy 127\.0\.0\.1:1: nothing is listening there/,
      );
    } finally {
      vi.unstubAllEnvs();
      await proxy.stop();
      await secure.stop();
    }
  });
});
