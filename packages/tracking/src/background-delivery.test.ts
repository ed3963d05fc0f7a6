import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { MlflowClient, type Run } from "@espalier/mlflow-js-client";
import { beforeEach, expect, test } from "vitest";
import { FaultyProxy } from "../../mlflow-js-client/src/real-server.test-support.js";
import { withMlflowServer } from "../../mlflow-js-client/src/with-mlflow.test-support.js";
import { BackgroundDelivery } from "./background-delivery.js";
import { RunJournal } from "./journal.js";
import type { StepMetrics } from "./records.js";

let client: MlflowClient;
let folder: string;

const mlflow = withMlflowServer("3.17.2", async (server) => {
  client = new MlflowClient({ trackingUri: server.address });
});

beforeEach(({ onTestFinished }) => {
  folder = mkdtempSync(join(tmpdir(), "espalier-background-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
});

const metrics = (step: number): StepMetrics => ({
  step,
  time: 1_700_000_000_000 + step,
  loss: 5 / step,
  depth: 3,
  stage: 0,
  uniqueLayers: 3,
  learningRate: 1e-3,
  gradientNorm: 1,
  flops: step * 1e12,
  tokens: step * 1024,
  seconds: step / 10,
  tokensPerSecond: 10_240,
});

const options = (id: string) => ({
  folder,
  connection: { trackingUri: mlflow.server.address },
  experiment: "background",
  run: {
    id,
    name: id,
    startTime: 1_700_000_000_000,
    definition: { seed: 1 },
    summary: "A **test** of delivery.",
  },
  artifacts: [
    { path: "definition.yaml", file: "definition.yaml" },
    { path: "not-there.svg", file: "not-there.svg" },
  ],
  checkpoints: "last" as const,
  systemMetricsEverySeconds: 0.2,
  everySeconds: 0.05,
});

async function find(id: string): Promise<Run | undefined> {
  const experiment = await client.getExperimentByName("background");
  if (experiment === undefined) return undefined;
  return client.findRunByTag(experiment.experimentId, { key: "espalier.runId", value: id });
}

test("a run is delivered with its files, system metrics, growths and a description", async () => {
  writeFileSync(join(folder, "definition.yaml"), "name: background\n");
  const journal = await RunJournal.open(folder);
  const delivery = BackgroundDelivery.start(options("whole"));
  journal.event({ event: "start", step: 0, time: 1_700_000_000_000 });
  for (let step = 1; step <= 50; step++) journal.step(metrics(step));
  const shape = { depth: 3, hiddenSize: 64, attentionHeads: 4, intermediateSize: 256 };
  journal.event({
    event: "growth",
    step: 25,
    time: 1_700_000_000_025,
    stage: 1,
    from: shape,
    to: { ...shape, depth: 6 },
    expander: "interpolation",
    layerMap: [0, 0, 1, 1, 2, 2],
    mapHash: "abc",
    seconds: 0.1,
  });
  journal.event({
    event: "evaluation",
    step: 50,
    time: 1_700_000_000_050,
    loss: 4.25,
    depth: 6,
    flops: 50e12,
    tokens: 51_200,
    seconds: 5,
  });
  journal.event({
    event: "end",
    step: 50,
    time: 1_700_000_000_051,
    finalTrainLoss: 0.1,
    finalEvalLoss: 4.25,
    flops: 50e12,
    seconds: 5,
    tokensPerSecond: 10_240,
  });
  await wait(600);
  await journal.close();
  const result = await delivery.finish("FINISHED");
  expect(result).toMatchObject({ isComplete: true, problem: null });
  const run = (await find("whole"))!;
  expect(run).toMatchObject({ status: "FINISHED", endTime: 1_700_000_000_051 });
  expect(result.url).toContain(run.runId);
  expect(run.metrics.loss).toMatchObject({ step: 50, value: 0.1 });
  expect(run.metrics["evaluation-by-gflops/loss"]).toMatchObject({ step: 50_000, value: 4.25 });
  expect(run.tags["mlflow.note.content"]).toMatch(
    /^evaluation loss \*\*4\.2500\*\* after \*\*50\.0 TFLOPs\*\*/,
  );
  expect(run.tags["mlflow.note.content"]).toContain("A **test** of delivery.");
  expect(run.tags["mlflow.note.content"]).toContain("| 25 |");
  expect(run.tags["mlflow.runColor"]).toMatch(/^#[0-9a-f]{6}$/);
  expect((await client.artifacts.read(run, "definition.yaml")).toString()).toBe("name: background\n");
  expect(JSON.parse((await client.artifacts.read(run, "growth.json")).toString())).toMatchObject([
    { step: 25, layerMap: [0, 0, 1, 1, 2, 2] },
  ]);
  for (const name of [
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "disk_available_megabytes",
  ]) {
    const points = await client.metricHistory(run.runId, `system/${name}`);
    expect(points.length, name).toBeGreaterThan(1);
    expect(new Set(points.map(({ step }) => step)).size).toBe(points.length);
  }
});

test("a run whose process is killed is delivered to its last line, and marked as killed", async () => {
  const journal = await RunJournal.open(folder);
  await journal.close();
  const compiled = (name: string) => pathToFileURL(join(import.meta.dirname, "..", "dist", name)).href;
  const script = join(folder, "train.mjs");
  writeFileSync(
    script,
    `import { RunJournal } from ${JSON.stringify(compiled("journal.js"))};
import { BackgroundDelivery } from ${JSON.stringify(compiled("background-delivery.js"))};
const journal = await RunJournal.open(${JSON.stringify(folder)});
BackgroundDelivery.start(${JSON.stringify(options("killed"))});
const step = ${JSON.stringify(metrics(1))};
for (let index = 1; index <= 40; index++) journal.step({ ...step, step: index });
console.log("written");
setInterval(() => undefined, 1000);
`,
  );
  const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  for (const start = Date.now(); (await find("killed"))?.status !== "KILLED"; await wait(100))
    if (Date.now() - start > 45_000) throw new Error("the run was not marked as killed");
  const run = (await find("killed"))!;
  expect(await client.metricHistory(run.runId, "loss")).toHaveLength(40);
});

test("a waiting that is ended leaves the rest to the background, where it arrives", async () => {
  const proxy = await FaultyProxy.start(mlflow.server.address, () => ({ waitMilliseconds: 400 }));
  try {
    const journal = await RunJournal.open(folder);
    for (let step = 1; step <= 300; step++) journal.step(metrics(step));
    await journal.close();
    const delivery = BackgroundDelivery.start({
      ...options("left"),
      connection: { trackingUri: proxy.address },
    });
    const start = Date.now();
    const left = await delivery.finish("FINISHED", { signal: AbortSignal.timeout(300) });
    expect(Date.now() - start).toBeLessThan(2000);
    expect(left.isComplete).toBe(false);
    for (; (await find("left"))?.status !== "FINISHED"; await wait(100))
      // The delivery gives way to all other work: on a busy machine it takes many times as long as on an idle one.
      if (Date.now() - start > 240_000) throw new Error("it did not arrive");
    expect(await client.metricHistory((await find("left"))!.runId, "loss")).toHaveLength(300);
  } finally {
    await proxy.stop();
  }
}, 300_000);

test("100 000 metric points arrive, each once", async () => {
  const journal = await RunJournal.open(folder);
  const start = performance.now();
  const delivery = BackgroundDelivery.start(options("many"));
  for (let step = 1; step <= 10_000; step++) journal.step(metrics(step));
  await journal.close();
  const written = performance.now();
  expect((await delivery.finish("FINISHED", { withinSeconds: 60 })).isComplete).toBe(true);
  const delivered = performance.now();
  const run = (await find("many"))!;
  let points = 0;
  for (const key of Object.keys(run.metrics).filter((name) => !name.startsWith("system/"))) {
    const history = await client.metricHistory(run.runId, key);
    expect(
      history.map(({ step }) => step),
      key,
    ).toStrictEqual(Array.from({ length: 10_000 }, (_, at) => at + 1));
    points += history.length;
  }
  expect(points).toBe(100_000);
  const seconds = (from: number, to: number) => ((to - from) / 1000).toFixed(1);
  console.info(
    `100 000 points: ${seconds(start, written)} s to the journal, ${seconds(written, delivered)} s more to the server, ` +
      `${seconds(delivered, performance.now())} s to read them back`,
  );
}, 180_000);
