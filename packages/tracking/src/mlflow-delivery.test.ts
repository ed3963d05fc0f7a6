import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { MlflowClient } from "@espalier/mlflow-js-client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  FaultyProxy,
  type Interference,
  serverVersions,
} from "../../mlflow-js-client/src/real-server.test-support.js";
import { withMlflowServer } from "../../mlflow-js-client/src/with-mlflow.test-support.js";
import { RunJournal, readEvents, readMetrics } from "./journal.js";
import { MlflowDelivery, type MlflowDeliveryOptions } from "./mlflow-delivery.js";
import { mlflowBatch } from "./mlflow-records.js";
import type { StepMetrics } from "./records.js";
import { sourceTags } from "./source-tags.js";

const versions = Object.keys(serverVersions) as (keyof typeof serverVersions)[];

describe.each(versions)("MLflow %s", (version) => {
  let client: MlflowClient;
  let folder: string;
  let notes: string[];
  let runs = 0;

  const mlflow = withMlflowServer(version, async (server) => {
    client = new MlflowClient({ trackingUri: server.address });
  });

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "espalier-delivery-"));
    notes = [];
    runs++;
  });

  afterEach(() => {
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  function deliver(address: string, changes: Partial<MlflowDeliveryOptions> = {}): MlflowDelivery {
    return MlflowDelivery.start({
      folder,
      connection: { trackingUri: address, backoffSeconds: 0.01 },
      experiment: "delivery",
      run: {
        id: `run-${runs}`,
        name: `run ${runs}`,
        startTime: 1_700_000_000_000,
        definition: { seed: 42, growth: { sampler: { use: "lvps" } }, backend: "libtorch" },
        tags: { "espalier.version": "0.1.0" },
      },
      note: (line) => notes.push(line),
      everySeconds: 0.02,
      retrySeconds: 0.05,
      ...changes,
    });
  }

  function metrics(step: number): StepMetrics {
    return {
      step,
      time: 1_700_000_000_000 + step * 100,
      loss: Math.fround(9 / Math.sqrt(step)),
      depth: 3 + (step % 10),
      stage: 0,
      uniqueLayers: 3,
      learningRate: 1e-3 / step,
      gradientNorm: Math.fround(1 + Math.sin(step)),
      flops: step * 1.5e12,
      tokens: step * 2048,
      seconds: step * 0.1,
      tokensPerSecond: 20_480,
    };
  }

  async function journalWith(steps: number): Promise<RunJournal> {
    const journal = await RunJournal.open(folder);
    journal.event({ event: "start", step: 0, time: 1_700_000_000_000 });
    for (let step = 1; step <= steps; step++) journal.step(metrics(step));
    return journal;
  }

  /** The run on the server has exactly the journal's points: every one, once, value by value. */
  async function expectJournalOnServer(): Promise<void> {
    const experiment = await client.getExperimentByName("delivery");
    const { items } = await client.searchRuns({
      experimentIds: [experiment!.experimentId],
      filter: `tags.espalier.runId = 'run-${runs}'`,
      view: "ALL",
    });
    expect(items).toHaveLength(1);
    const run = items[0]!;
    const expected = mlflowBatch(await readMetrics(folder), await readEvents(folder));
    const keys = new Set(expected.metrics?.map((metric) => metric.key));
    expect(new Set(Object.keys(run.metrics))).toStrictEqual(keys);
    for (const key of keys)
      expect(await client.metricHistory(run.runId, key)).toStrictEqual(
        expected.metrics?.filter((metric) => metric.key === key),
      );
  }

  async function runOnServer() {
    const experiment = await client.getExperimentByName("delivery");
    return client.findRunByTag(experiment!.experimentId, { key: "espalier.runId", value: `run-${runs}` });
  }

  async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
    for (const start = Date.now(); !(await condition()); await wait(20))
      if (Date.now() - start > 30_000) throw new Error("it did not happen within 30 seconds");
  }

  async function withProxy(
    interfere: (number: number, authorization: string | undefined) => Interference,
    use: (proxy: FaultyProxy) => Promise<void>,
  ): Promise<void> {
    const proxy = await FaultyProxy.start(mlflow.server.address, (request, number) =>
      interfere(number, request.headers.authorization),
    );
    try {
      await use(proxy);
    } finally {
      await proxy.stop();
    }
  }

  test("a run arrives with params, metrics, tags and status", async () => {
    const tags = await sourceTags(import.meta.dirname, "experiments/quickstart/apollo.yaml");
    const base = { id: `run-${runs}`, name: "apollo s42", startTime: 1_700_000_000_000 };
    const definition = { seed: 42, growth: { schedule: { depths: [3, 6] } } };
    const journal = await RunJournal.open(folder);
    const delivery = deliver(mlflow.server.address, { run: { ...base, definition, tags } });
    journal.event({ event: "start", step: 0, time: base.startTime });
    for (let step = 1; step <= 30; step++) {
      journal.step(metrics(step));
      await wait(5);
    }
    const shape = { depth: 3, hiddenSize: 64, attentionHeads: 4, intermediateSize: 256 };
    journal.event({
      event: "growth",
      step: 30,
      time: 1_700_000_003_000,
      stage: 1,
      from: shape,
      to: { ...shape, depth: 6 },
      expander: "interpolation",
      layerMap: [0, 0, 1, 1, 2, 2],
      mapHash: "abc",
      seconds: 0.1,
    });
    const reached = { step: 30, time: 1_700_000_003_001, flops: 45e12, tokens: 61_440, seconds: 3 };
    journal.event({
      event: "evaluation",
      loss: 2.5,
      depth: 6,
      targetDepth: 12,
      targetLoss: 2.25,
      ...reached,
    });
    journal.event({
      event: "end",
      finalTrainLoss: 1.64,
      finalEvalLoss: 2.5,
      tokensPerSecond: 20_480,
      ...reached,
    });
    await journal.close();
    const result = await delivery.finish("FINISHED");
    expect(result).toMatchObject({ isComplete: true, problem: null });
    await expectJournalOnServer();
    const run = await runOnServer();
    expect(run).toMatchObject({ status: "FINISHED", runName: "apollo s42", startTime: base.startTime });
    expect(run?.endTime).toBeGreaterThan(base.startTime);
    expect(run?.params).toStrictEqual({ seed: "42", "growth.schedule.depths": "[3,6]" });
    expect(run?.tags).toMatchObject({ ...tags, "mlflow.runName": "apollo s42", "espalier.runId": base.id });
    expect(run?.tags["espalier.growth.1"]).toContain("after step 30, by interpolation");
    expect(run?.metrics["evaluation/loss"]).toMatchObject({ value: 2.5, step: 30 });
    expect(run?.metrics["evaluation/targetLoss"]).toMatchObject({ value: 2.25 });
    expect(run?.metrics["evaluation/flops"]).toMatchObject({ value: 45e12 });
    expect(result.url).toBe(
      `${mlflow.server.address}/#/experiments/${run?.experimentId}/runs/${run?.runId}?workflowType=machine_learning`,
    );
    expect(notes).toStrictEqual([`MLflow: ${result.url}`]);
  });

  test("a server that is killed in the middle and started again has everything, once", async () => {
    const journal = await RunJournal.open(folder);
    const delivery = deliver(mlflow.server.address);
    journal.event({ event: "start", step: 0, time: 1 });
    let step = 0;
    const train = async (steps: number) => {
      for (const last = step + steps; step < last; ) {
        journal.step(metrics(++step));
        if (step % 4 === 0) await wait(5);
      }
    };
    await train(150);
    await until(async () => ((await runOnServer())?.metrics.loss?.step ?? 0) > 0);
    await train(50);
    await mlflow.server.kill();
    await train(200);
    expect(notes.some((note) => note.includes("cannot reach"))).toBe(true);
    await mlflow.server.start();
    await train(100);
    await journal.close();
    expect((await delivery.finish("FINISHED", { withinSeconds: 60 })).isComplete).toBe(true);
    await expectJournalOnServer();
    expect(notes.at(-1)).toContain("delivering again");
  }, 180_000);

  test("a server that fails every third request has everything, once", async () => {
    await withProxy(
      (number) => (number % 3 === 0 ? { status: 500, text: "<html>oops</html>" } : undefined),
      async (proxy) => {
        const journal = await journalWith(400);
        const delivery = deliver(proxy.address);
        await journal.close();
        expect((await delivery.finish("FINISHED")).isComplete).toBe(true);
        await expectJournalOnServer();
      },
    );
  });

  test("connections that break after the server acted double nothing", async () => {
    await withProxy(
      (number) => (number % 4 === 0 ? "break after" : undefined),
      async (proxy) => {
        const journal = await journalWith(400);
        const delivery = deliver(proxy.address);
        await journal.close();
        expect((await delivery.finish("FINISHED")).isComplete).toBe(true);
        await expectJournalOnServer();
        expect((await runOnServer())?.status).toBe("FINISHED");
      },
    );
  });

  test("a proxy that wants a token gets the environment's", async () => {
    await withProxy(
      (_, authorization) =>
        authorization === "Bearer sesame" ? undefined : { status: 401, text: "who are you?" },
      async (proxy) => {
        const journal = await journalWith(5);
        await journal.close();
        const closed = await deliver(proxy.address).finish("FINISHED");
        expect(closed).toMatchObject({ isComplete: false, url: null });
        expect(closed.problem).toContain("MLFLOW_TRACKING_TOKEN");
        const open = deliver(proxy.address, { connection: { trackingUri: proxy.address, token: "sesame" } });
        expect((await open.finish("FINISHED")).isComplete).toBe(true);
        await expectJournalOnServer();
      },
    );
  });

  test("a server that breaks the connection within every fourth answer doubles and loses nothing", async () => {
    await withProxy(
      (number) => (number % 4 === 0 ? "break within" : undefined),
      async (proxy) => {
        const journal = await journalWith(400);
        const delivery = deliver(proxy.address);
        await journal.close();
        expect((await delivery.finish("FINISHED")).isComplete).toBe(true);
        await expectJournalOnServer();
      },
    );
  });

  test("runs that are delivered at once under one parent end up under one", async () => {
    const parent = { id: `sweep-${runs}`, name: "sweep", startTime: 1_700_000_000_000 };
    const folders = Array.from({ length: 5 }, () => mkdtempSync(join(tmpdir(), "espalier-child-")));
    const children = await Promise.all(
      folders.map(async (child, index) => {
        const journal = await RunJournal.open(child);
        journal.step(metrics(1));
        await journal.close();
        const delivery = deliver(mlflow.server.address, {
          folder: child,
          run: { id: `child-${runs}-${index}`, name: `child ${index}`, startTime: 1, definition: {}, parent },
        });
        return delivery.finish("FINISHED");
      }),
    );
    for (const child of folders) rmSync(child, { recursive: true });
    expect(children.map(({ problem }) => problem)).toStrictEqual([null, null, null, null, null]);
    const { experimentId } = (await client.getExperimentByName("delivery"))!;
    const found = async (filter: string) =>
      (await client.searchRuns({ experimentIds: [experimentId], filter })).items;
    const parents = await found(`tags.espalier.runId = '${parent.id}'`);
    expect(parents.map(({ runName }) => runName)).toStrictEqual(["sweep"]);
    expect(await found(`tags.mlflow.parentRunId = '${parents[0]!.runId}'`)).toHaveLength(5);
  });

  test("a value that is too long for a param is an artifact, whole", async () => {
    const long = "x".repeat(7000);
    const journal = await journalWith(1);
    await journal.close();
    const run = { id: `run-${runs}`, name: "long", startTime: 1, definition: { corpus: { files: long } } };
    expect((await deliver(mlflow.server.address, { run }).finish("FINISHED")).isComplete).toBe(true);
    const found = (await runOnServer())!;
    expect(found.params["corpus.files"]).toMatch(/^x+… \(7000 characters in long-params\.json\)$/);
    const artifact = await client.artifacts.read(found, "long-params.json");
    expect(JSON.parse(artifact.toString())).toStrictEqual({ "corpus.files": long });
  });

  test("an experiment that is deleted while the run goes on is named, and gets the rest when it is restored", async () => {
    const journal = await journalWith(50);
    const delivery = deliver(mlflow.server.address, { experiment: "deleted meanwhile" });
    const find = async () => {
      const experiment = await client.getExperimentByName("deleted meanwhile");
      const tag = { key: "espalier.runId", value: `run-${runs}` };
      return experiment && client.findRunByTag(experiment.experimentId, tag);
    };
    await until(async () => (await find())?.metrics.loss?.step === 50);
    const { experimentId } = (await client.getExperimentByName("deleted meanwhile"))!;
    await client.deleteExperiment(experimentId);
    for (let step = 51; step <= 60; step++) journal.step(metrics(step));
    await until(() => notes.some((note) => note.includes("deleted") && note.includes("the run goes on")));
    await client.restoreExperiment(experimentId);
    await until(async () => (await find())?.metrics.loss?.step === 60);
    await journal.close();
    expect((await delivery.finish("FINISHED")).isComplete).toBe(true);
    expect(await client.metricHistory((await find())!.runId, "loss")).toHaveLength(60);
  });

  test("a resumed run goes on in the same run, and nothing is sent twice", async () => {
    await withProxy(
      () => undefined,
      async (proxy) => {
        const first = await journalWith(120);
        first.event({ event: "interrupted", step: 120, time: 1_700_000_020_000 });
        await first.close();
        const { url } = await deliver(proxy.address).finish("KILLED");
        expect((await runOnServer())?.status).toBe("KILLED");
        const requestsBefore = proxy.requests.length;

        const second = await RunJournal.open(folder);
        const run = {
          id: `run-${runs}`,
          name: `run ${runs}`,
          startTime: 1,
          definition: { seed: 42, growth: { sampler: { use: "lvps" } }, backend: "tensorflow" },
        };
        const delivery = deliver(proxy.address, { run });
        second.event({ event: "resume", step: 100, time: 1_700_000_030_000 });
        for (let step = 101; step <= 140; step++) second.step(metrics(step));
        await until(async () => (await runOnServer())?.status === "RUNNING");
        await second.close();
        expect((await delivery.finish("FINISHED")).url).toBe(url);
        await expectJournalOnServer();
        const found = await runOnServer();
        expect(found).toMatchObject({ status: "FINISHED", startTime: 1_700_000_000_000 });
        expect(found?.params.backend).toBe("libtorch");
        expect(found?.tags).toMatchObject({
          "espalier.changed.backend": "tensorflow",
          "espalier.resumed": "from step 100",
          "espalier.interrupted": "after step 120",
        });
        const batches = proxy.requests
          .slice(requestsBefore)
          .filter((request) => request.includes("log-batch"));
        expect(batches.length).toBeLessThanOrEqual(4);
      },
    );
  });

  test("without its position, or with a damaged one, all is sent again into the same run, doubling nothing", async () => {
    const journal = await journalWith(130);
    await journal.close();
    const first = await deliver(mlflow.server.address).finish("FINISHED");
    for (const damage of [
      () => rmSync(join(folder, "mlflow.json")),
      () => writeFileSync(join(folder, "mlflow.json"), '{"version":1,"serv'),
      () =>
        writeFileSync(
          join(folder, "mlflow.json"),
          readFileSync(join(folder, "mlflow.json"), "utf8").replace(/"byte": \d+/g, '"byte": 999999999'),
        ),
    ]) {
      damage();
      const again = await deliver(mlflow.server.address).finish("FINISHED");
      expect(again).toMatchObject({ isComplete: true, url: first.url });
      await expectJournalOnServer();
    }
  });

  test("a server that never answers costs the steps nothing, and the end is bounded", async () => {
    const journal = await RunJournal.open(folder);
    const stepsFor = async (milliseconds: number) => {
      let busy = 0;
      let longest = 0;
      const start = performance.now();
      for (; performance.now() - start < milliseconds; ) {
        const before = performance.now();
        journal.step(metrics(journal.lastStep + 1));
        await new Promise((resolve) => setImmediate(resolve));
        const spent = performance.now() - before;
        busy += spent;
        longest = Math.max(longest, spent);
        await wait(10);
      }
      return { busy, longest };
    };
    await withProxy(
      () => "never answer",
      async (proxy) => {
        const delivery = deliver(proxy.address);
        const { longest } = await stepsFor(1000);
        // A step that waited for the server would wait for ever.
        expect(longest).toBeLessThan(500);
        await journal.close();
        const start = Date.now();
        const result = await delivery.finish("FINISHED", { withinSeconds: 0.5 });
        expect(Date.now() - start).toBeLessThan(3000);
        expect(result).toMatchObject({ isComplete: false, url: null });
        expect(notes.at(-1)).toContain("--resume sends the rest");
      },
    );
    expect((await deliver(mlflow.server.address).finish("FINISHED")).isComplete).toBe(true);
    await expectJournalOnServer();
  });

  test("a server that is not there is told once, and the end does not wait for it", async () => {
    const journal = await journalWith(10);
    const delivery = deliver("http://127.0.0.1:1");
    await wait(500);
    await journal.close();
    const start = Date.now();
    expect((await delivery.finish("FINISHED")).isComplete).toBe(false);
    expect(Date.now() - start).toBeLessThan(10_000);
    expect(notes.filter((note) => note.includes("nothing is listening there; the run goes on"))).toHaveLength(
      1,
    );
  });

  test("an experiment that was deleted, and a run that was deleted, are named", async () => {
    const { experimentId } = await client.getOrCreateExperiment("gone");
    await client.deleteExperiment(experimentId);
    const journal = await journalWith(3);
    await journal.close();
    const result = await deliver(mlflow.server.address, { experiment: "gone" }).finish("FINISHED");
    expect(result.problem).toContain('experiment "gone" was deleted');

    await deliver(mlflow.server.address).finish("FINISHED");
    await client.deleteRun((await runOnServer())!.runId);
    const deleted = await deliver(mlflow.server.address).finish("FINISHED");
    expect(deleted.problem).toContain("was deleted");
  });

  test("a run id that the server does not know is looked up again by the run's own tag", async () => {
    const journal = await journalWith(120);
    await journal.close();
    await deliver(mlflow.server.address).finish("FINISHED");
    const file = join(folder, "mlflow.json");
    writeFileSync(file, readFileSync(file, "utf8").replace(/"runId": "\w+"/, `"runId": "${"f".repeat(32)}"`));
    const found = await runOnServer();
    const again = await deliver(mlflow.server.address).finish("FINISHED");
    expect(again.url).toContain(found?.runId);
    await expectJournalOnServer();
  });

  test("where the position cannot be noted, the run is delivered all the same", async () => {
    const journal = await journalWith(10);
    await journal.close();
    mkdirSync(join(folder, "mlflow.json", "in the way"), { recursive: true });
    expect((await deliver(mlflow.server.address).finish("FINISHED")).isComplete).toBe(true);
    await expectJournalOnServer();
    expect(notes.some((note) => note.includes(`cannot note in ${folder}`))).toBe(true);
    expect(readdirSync(folder).sort()).toStrictEqual(["events.jsonl", "metrics.jsonl", "mlflow.json"]);
  });
});
