import type { ChildProcess } from "node:child_process";
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { MlflowClient } from "@espalier/mlflow-js-client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  FaultyProxy,
  type Interference,
  serverVersions,
} from "../../mlflow-js-client/src/real-server.test-support.js";
import { withMlflowServer } from "../../mlflow-js-client/src/with-mlflow.test-support.js";
import { type Ended, espalier, makeFolder } from "./testing/espalier.js";
import { expectAsInFolder, readBack } from "./testing/read-back.js";

const quickstart = fileURLToPath(new URL("../../../experiments/quickstart/apollo.yaml", import.meta.url));
const reduced = [
  ...["model.depth=4", "model.hiddenSize=32", "model.attentionHeads=2", "growth.schedule.depths=[1,2,4]"],
  ...["training.steps=40", "training.batchSize=2", "data.sequenceLength=32"],
  ...["evaluation.every=8", "evaluation.batches=2", "threads=1"],
];
const versions = Object.keys(serverVersions) as (keyof typeof serverVersions)[];

// Everything is read with MLflow's own Python client, and compared with the run folder value by value.
describe.each(versions)("runs on MLflow %s", (version) => {
  const isNewest = version === versions[0];
  let folder: Awaited<ReturnType<typeof makeFolder>>;
  const at = (name: string): string => join(folder.path, name);

  beforeAll(async () => {
    folder = await makeFolder();
  });
  afterAll(() => folder.remove());
  const mlflow = withMlflowServer(version);

  const run = (out: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> =>
    espalier(["run", ...args, "--out", out], {
      cwd: folder.path,
      env: { MLFLOW_TRACKING_URI: mlflow.server.address, ...env },
    });
  const read = (experiment: string) => readBack(mlflow.server.python, mlflow.server.address, experiment);

  it("the quickstart, at reduced length", async () => {
    const { code, stderr } = await run("quick", [quickstart, ...reduced]);
    expect(code, stderr).toBe(0);
    const [found, ...others] = await read("quickstart");
    expect(others).toHaveLength(0);
    expect(found!.params).toMatchObject({ seed: "42", "growth.sampler.use": "lvps", "model.depth": "4" });
    expect(found!.tags["mlflow.note.content"]).toMatch(/^evaluation loss \*\*\d\.\d{4}\*\* after \*\*/);
    for (const name of [
      "cpu_utilization_percentage",
      "system_memory_usage_megabytes",
      "disk_usage_percentage",
    ])
      expect(
        found!.points.some(([key]) => key === `system/${name}`),
        name,
      ).toBe(true);
    expect(Object.keys(found!.artifacts)).toEqual(
      expect.arrayContaining([
        "loss.svg",
        "checkpoints/step-40/model.safetensors",
        "growth.json",
        "growth-maps/stage-1.json",
      ]),
    );
    await expectAsInFolder(found!, at("quick"));
  });

  it("servers and ways that fail now and then, are slow, or want a token: everything, once", async () => {
    const ways: Record<string, (number: number, authorization: string | undefined) => Interference> = {
      "500 every third": (number) => (number % 3 === 0 ? { status: 500, text: "<html>oops" } : undefined),
      slow: () => ({ waitMilliseconds: isNewest ? 400 : 50 }),
      breaking: (number) =>
        ([undefined, "break before", undefined, "break after", undefined, "break within"] as const)[
          number % 6
        ],
      token: (_, authorization) =>
        authorization === "Bearer sesame" ? undefined : { status: 401, text: "who are you?" },
    };
    const long = Array.from({ length: 2 }, () => `${"./".repeat(1700)}corpus.txt`);
    await Promise.all(
      Object.entries(ways).map(async ([name, interfere]) => {
        const proxy = await FaultyProxy.start(mlflow.server.address, (request, number) =>
          interfere(number, request.headers.authorization),
        );
        try {
          const { code, stderr } = await run(
            name,
            [
              "tiny.yaml",
              "tracking.experiment=ways",
              "data.sequenceLength=8",
              `data.corpus.files=${JSON.stringify(long)}`,
            ],
            { MLFLOW_TRACKING_URI: proxy.address, MLFLOW_TRACKING_TOKEN: "sesame" },
          );
          expect(code, stderr).toBe(0);
          expect(stderr, name).not.toContain("has not got all");
        } finally {
          await proxy.stop();
        }
      }),
    );
    const found = await read("ways");
    expect(found).toHaveLength(4);
    for (const name of Object.keys(ways)) {
      const { runId } = JSON.parse(await readFile(at(`${name}/lock.json`), "utf8")) as { runId: string };
      const run = found.find(({ tags }) => tags["espalier.runId"] === runId);
      await expectAsInFolder(run!, at(name));
      expect(run!.artifacts["long-params.json"], name).toBeDefined();
    }
  }, 120_000);

  it.runIf(isNewest)(
    "a server that is dead at the start, comes, is killed, and comes again; and what it missed",
    async () => {
      const client = new MlflowClient({ trackingUri: mlflow.server.address });
      const long = [
        "tiny.yaml",
        "tracking.experiment=coming",
        "training.steps=100000",
        "training.batchSize=48",
      ];
      await mlflow.server.kill();

      // One run trains all the while, until it is told to stop.
      const children: Record<string, ChildProcess> = {};
      const start = (out: string, more: readonly string[]) =>
        espalier(["run", ...long, ...more, "--out", out], {
          cwd: folder.path,
          env: { MLFLOW_TRACKING_URI: mlflow.server.address },
          onStderr: (_, child) => {
            children[out] = child;
          },
        });
      const lines = async (out: string): Promise<number> =>
        (await readFile(at(`${out}/metrics.jsonl`), "utf8").catch(() => "")).split("\n").length - 1;
      const trains = async (out: string, beyond: number): Promise<void> => {
        for (const begin = Date.now(); ; await wait(50)) {
          if (children[out] !== undefined && (await lines(out)) > beyond) return;
          if (Date.now() - begin > 60_000) throw new Error(`${out} does not train`);
        }
      };
      const running = start("through", ["evaluation.every=200", "checkpoints.every=500"]);
      // Two others meet no server at all: one ends, one is interrupted.
      const interrupted = start("resumed", ["seed=2"]);
      const ended = await run("synced", ["tiny.yaml", "tracking.experiment=coming", "seed=3"]);
      expect(ended.code, ended.stderr).toBe(0);
      expect(ended.stderr).toContain("nothing is listening there");
      expect(ended.stderr).toContain("espalier sync or --resume sends the rest");
      await trains("resumed", 0);
      children.resumed!.kill("SIGINT");
      expect((await interrupted).code).toBe(1);
      delete children.resumed;

      const arrived = async (steps: number): Promise<void> => {
        const { runId } = JSON.parse(await readFile(at("through/lock.json"), "utf8")) as { runId: string };
        for (const begin = Date.now(); ; await wait(100)) {
          const experiment = await client.getExperimentByName("coming");
          const tag = { key: "espalier.runId", value: runId };
          const run = experiment && (await client.findRunByTag(experiment.experimentId, tag));
          const step = run?.metrics.loss?.step ?? 0;
          if (step > steps) return;
          if (Date.now() - begin > 60_000) throw new Error(`only ${step} steps have arrived`);
        }
      };
      await mlflow.server.start();
      await arrived(0);
      await mlflow.server.kill();
      await wait(1500);
      await mlflow.server.start();
      children.through!.kill("SIGINT");
      const through = await running;
      expect(through.code, through.stderr).toBe(1);
      expect(through.stderr).toContain("MLflow: delivering again");
      expect(through.stderr).not.toContain("has not got all");

      const sent = await espalier(["sync", "synced", "--to", mlflow.server.address], { cwd: folder.path });
      expect(sent.code, sent.stderr).toBe(0);
      const trained = await lines("resumed");
      const resumed = await run("resumed", [...long, "seed=2", `training.steps=${trained + 20}`, "--resume"]);
      // Another length is another definition.
      expect(resumed.code).toBe(2);
      const again = start("resumed", ["seed=2", "--resume"]);
      await trains("resumed", trained);
      children.resumed!.kill("SIGINT");
      expect((await again).code).toBe(1);

      const found = await read("coming");
      expect(found).toHaveLength(3);
      const seed = (text: string) => found.find(({ params }) => params.seed === text)!;
      await expectAsInFolder(seed("42"), at("through"), "KILLED");
      await expectAsInFolder(seed("2"), at("resumed"), "KILLED");
      await expectAsInFolder(seed("3"), at("synced"));
      expect(seed("2").tags).toMatchObject({
        "espalier.resumed": expect.stringContaining("from step"),
        "espalier.interrupted": expect.stringContaining("after step"),
      });
    },
    180_000,
  );

  it.runIf(isNewest)(
    "sync sends a run later, once, however often; another copy of the folder is the same run",
    async () => {
      const trained = await espalier(
        ["run", "tiny.yaml", "tracking.experiment=later", "tracking.checkpoints=none", "--out", "runs/later"],
        { cwd: folder.path },
      );
      expect(trained.code, trained.stderr).toBe(0);
      const first = await espalier(["sync", "--to", mlflow.server.address, "--json"], { cwd: folder.path });
      expect(first.code, first.stderr).toBe(0);
      expect(JSON.parse(first.stdout)).toMatchObject({
        runs: [{ folder: "runs/later", status: "FINISHED", complete: true, problem: null }],
      });
      await cp(at("runs/later"), at("copied/later"), { recursive: true });
      await rm(at("copied/later/mlflow.json"));
      for (const where of ["runs", "copied"]) {
        const again = await espalier(["sync", where, "--to", mlflow.server.address], { cwd: folder.path });
        expect(again.code, again.stderr).toBe(0);
      }
      const [found, ...others] = await read("later");
      expect(others).toHaveLength(0);
      expect(Object.keys(found!.artifacts).filter((path) => path.startsWith("checkpoints"))).toEqual([]);
      await expectAsInFolder(found!, at("runs/later"));
    },
  );

  it.runIf(isNewest)("sync says what is missing: a server, runs, a folder", async () => {
    const without = await espalier(["sync"], { cwd: folder.path });
    expect(without.code).toBe(2);
    expect(without.stderr).toContain("--to");
    const nowhere = await espalier(["sync", "nowhere", "--to", mlflow.server.address], { cwd: folder.path });
    expect(nowhere.code).toBe(2);
    expect(nowhere.stderr).toContain("nowhere");
    await writeFile(at("file"), "");
    const none = await espalier(["sync", "copied/later/checkpoints", "--to", mlflow.server.address], {
      cwd: folder.path,
    });
    expect(none.code).toBe(2);
    expect(none.stderr).toContain("there are no runs");
    const dead = await espalier(["sync", "runs", "--to", "http://127.0.0.1:9"], { cwd: folder.path });
    expect(dead.code).toBe(1);
    expect(dead.stderr).toContain("nothing is listening there");
  });
});
