import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@espalier/core";
import type { Lock } from "@espalier/experiments";
import { expect } from "vitest";
import { runToEnd } from "../../../mlflow-js-client/src/real-server.test-support.js";
import { readLines } from "./espalier.js";

/** A run as MLflow's own Python client reads it. */
export interface ReadBack {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly start: number;
  readonly end: number | null;
  readonly params: Readonly<Record<string, string>>;
  readonly tags: Readonly<Record<string, string>>;
  /** Every point of every metric: key, value, timestamp, step. */
  readonly points: readonly Point[];
  readonly datasets: readonly {
    readonly name: string;
    readonly digest: string;
    readonly source: string;
    readonly profile: string;
    readonly tags: Readonly<Record<string, string>>;
  }[];
  /** What `growth.json` holds. */
  readonly growths: readonly unknown[] | null;
  /** SHA-256 of each file. */
  readonly artifacts: Readonly<Record<string, string>>;
}

type Point = readonly [key: string, value: number, timestamp: number, step: number];

const script = `
import hashlib, json, os, sys, tempfile
import mlflow
from mlflow import MlflowClient
client = MlflowClient()
experiment = client.get_experiment_by_name(sys.argv[1])

def files(run_id, path=None):
    for entry in client.list_artifacts(run_id, path):
        if entry.is_dir:
            yield from files(run_id, entry.path)
        else:
            yield entry.path

def read(run):
    run_id = run.info.run_id
    artifacts = {}
    growths = None
    with tempfile.TemporaryDirectory() as folder:
        for path in files(run_id):
            there = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=folder)
            with open(there, "rb") as file:
                content = file.read()
            artifacts[path] = hashlib.sha256(content).hexdigest()
            if path == "growth.json":
                growths = json.loads(content)
    return {
        "id": run_id, "name": run.info.run_name, "status": run.info.status, "start": run.info.start_time,
        "end": run.info.end_time, "params": run.data.params, "tags": run.data.tags,
        "points": [[key, point.value, point.timestamp, point.step]
                   for key in run.data.metrics for point in client.get_metric_history(run_id, key)],
        "datasets": [{"name": i.dataset.name, "digest": i.dataset.digest, "source": i.dataset.source,
                      "profile": i.dataset.profile, "tags": {tag.key: tag.value for tag in i.tags}}
                     for i in run.inputs.dataset_inputs],
        "artifacts": artifacts, "growths": growths,
    }

print("RESULT" + json.dumps([read(run) for run in client.search_runs([experiment.experiment_id])]))
`;

/** The runs of an experiment as MLflow's own client reads them. @param python of a virtual environment with MLflow */
export async function readBack(python: string, address: string, experiment: string): Promise<ReadBack[]> {
  const { code, output } = await runToEnd("env", [
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false",
    `MLFLOW_TRACKING_URI=${address}`,
    python,
    "-c",
    script,
    experiment,
  ]);
  expect(code, output).toBe(0);
  return JSON.parse(output.slice(output.indexOf("RESULT") + 6).split("\n")[0]!) as ReadBack[];
}

interface Line extends Readonly<Record<string, unknown>> {
  readonly step: number;
  readonly time: number;
}

/**
 * A run on the server is what its folder says, value by value: every point of every metric once, every param, the tags,
 * the data set, the bytes of the files, when it began and how it ended. What is expected is worked out here anew.
 */
export async function expectAsInFolder(
  run: ReadBack,
  folder: string,
  status: "FINISHED" | "KILLED" | "FAILED" = "FINISHED",
): Promise<void> {
  const lock = JSON.parse(await readFile(join(folder, "lock.json"), "utf8")) as Lock;
  const events = await readLines<Line>(join(folder, "events.jsonl"));
  expect(run).toMatchObject({
    status,
    name: `${lock.name}-s${lock.seed}`,
    start: Date.parse(lock.created),
    end: events.at(-1)?.time,
  });
  expect([...run.points].sort(inOrder)).toStrictEqual((await pointsOf(folder, events)).sort(inOrder));
  expect(run.params).toStrictEqual(flat(lock.definition));
  expectTags(run, lock, events);
  expect(run.datasets).toStrictEqual([
    {
      name: (lock.definition.data as { corpus: { use: string } }).corpus.use,
      digest: lock.data.fingerprint.slice(0, 36),
      source: JSON.stringify(lock.definition.data),
      profile: expect.stringContaining(`"trainSequences":${lock.data.trainSequences}`),
      tags: { "mlflow.data.context": "training" },
    },
  ]);
  await expectFiles(run, folder, lock, events);
}

function expectTags(run: ReadBack, lock: Lock, events: readonly Line[]): void {
  const growths = events.filter(({ event }) => event === "growth");
  const checkpoint = events.findLast(({ event }) => event === "checkpoint")?.path;
  expect(run.tags).toMatchObject({
    "mlflow.user": userInfo().username,
    "mlflow.source.type": "LOCAL",
    "mlflow.source.git.commit": lock.code.commit,
    "mlflow.runName": run.name,
    "mlflow.note.content": expect.stringContaining(`**${lock.name}**, seed ${lock.seed}`),
    "espalier.runId": lock.runId,
    "espalier.version": lock.code.version,
    "espalier.definitionHash": lock.definitionHash,
    "espalier.backend": `${lock.backend.name} ${lock.backend.version}`,
    "espalier.device": lock.backend.device,
    "espalier.threads": String(lock.backend.threads),
    ...(checkpoint === undefined ? {} : { "espalier.checkpoint": checkpoint }),
    ...Object.fromEntries(
      growths.map(({ stage, step }) => [
        `espalier.growth.${stage}`,
        expect.stringContaining(`after step ${step}, by `),
      ]),
    ),
  });
}

async function expectFiles(
  run: ReadBack,
  folder: string,
  lock: Lock,
  events: readonly Line[],
): Promise<void> {
  const expected: Record<string, string> = {};
  const add = async (path: string): Promise<void> => {
    if (existsSync(join(folder, path))) expected[path] = sha256(await readFile(join(folder, path)));
  };
  for (const path of ["definition.yaml", "lock.json", "loss.svg"]) await add(path);
  const checkpoint = events.findLast(({ event }) => event === "checkpoint")?.path;
  const isSent = (lock.definition.tracking as JsonObject).checkpoints !== "none";
  if (typeof checkpoint === "string" && isSent)
    for (const name of await readdir(join(folder, checkpoint))) await add(`${checkpoint}/${name}`);
  expect(run.growths ?? []).toStrictEqual(events.filter(({ event }) => event === "growth"));
  expect(run.artifacts).toMatchObject(expected);
}

/** Every point that MLflow should have. */
async function pointsOf(folder: string, events: readonly Line[]): Promise<Point[]> {
  const points: Point[] = [];
  const add = (key: string, value: unknown, time: number, step: number): void => {
    if (value === undefined || value === null) return;
    expect(typeof value, key).toBe("number");
    points.push([key, value as number, time, step]);
  };
  const perStep =
    "loss learningRate gradientNorm depth uniqueLayers stage flops tokens seconds tokensPerSecond";
  for (const line of await readLines<Line>(join(folder, "metrics.jsonl")))
    for (const name of perStep.split(" ")) {
      expect(line[name], `${name} of step ${line.step}`).toBeDefined();
      add(name, line[name], line.time, line.step);
    }
  for (const line of events) {
    if (line.event === "evaluation") {
      add("evaluation/loss", line.loss, line.time, line.step);
      add("evaluation/depth", line.depth, line.time, line.step);
      add("evaluation/flops", line.flops, line.time, line.step);
      add("evaluation/targetLoss", line.targetLoss, line.time, line.step);
      add("evaluation-by-gflops/loss", line.loss, line.time, Math.round((line.flops as number) / 1e9));
    }
    if (line.event === "end")
      for (const name of ["finalTrainLoss", "finalEvalLoss"]) add(name, line[name], line.time, line.step);
  }
  const system = join(folder, "system.jsonl");
  if (existsSync(system))
    for (const line of await readLines<{
      sample: number;
      time: number;
      values: Record<string, number>;
    }>(system))
      for (const [name, value] of Object.entries(line.values))
        add(`system/${name}`, value, line.time, line.sample);
  return points;
}

/** Every key of a definition, joined by dots; a value that is too long as it is cut. */
function flat(value: JsonObject, path = ""): Record<string, string> {
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, child]) => {
      if (typeof child === "object" && child !== null && !Array.isArray(child) && Object.keys(child).length)
        return Object.entries(flat(child as JsonObject, `${path}${key}.`));
      const text = typeof child === "string" ? child : JSON.stringify(child);
      const end = `… (${text.length} characters in long-params.json)`;
      return [
        [`${path}${key}`, text.length <= 6000 ? text : text.slice(0, 6000 - end.length) + end] as const,
      ];
    }),
  );
}

function inOrder(a: Point, b: Point): number {
  return a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : a[3] - b[3] || a[2] - b[2] || a[1] - b[1];
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
