import { cp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MlflowClient, type Run } from "@espalier/mlflow-js-client";
import { readMetrics } from "@espalier/tracking";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { installMlflow, RealServer } from "../../mlflow-js-client/src/real-server.test-support.js";
import { espalier, makeFolder } from "./testing/espalier.js";

describe("a run and an MLflow server", () => {
  let folder: Awaited<ReturnType<typeof makeFolder>>;
  let server: RealServer | undefined;
  let missing: string | undefined;
  let client: MlflowClient;
  const at = (name: string) => join(folder.path, name);

  beforeAll(async () => {
    folder = await makeFolder();
    const installation = await installMlflow();
    if ("missing" in installation) {
      missing = installation.missing;
      console.warn(`skipped: ${missing}`);
      return;
    }
    server = await RealServer.start(installation.python);
    client = new MlflowClient({ trackingUri: server.address });
  }, 900_000);
  afterAll(async () => {
    await server?.stop();
    await folder?.remove();
  });
  beforeEach(({ skip }) => {
    skip(missing !== undefined, missing);
  });

  async function runsIn(experiment: string): Promise<readonly Run[]> {
    const { experimentId } = (await client.getExperimentByName(experiment))!;
    return (await client.searchRuns({ experimentIds: [experimentId] })).items;
  }

  it("is delivered while it trains, with everything that describes it", async () => {
    const { code, stderr } = await espalier(
      ["run", "tiny.yaml", "tracking.experiment=live", "--out", "live"],
      {
        cwd: folder.path,
        env: { MLFLOW_TRACKING_URI: server!.address },
      },
    );
    expect(code, stderr).toBe(0);
    const [run] = await runsIn("live");
    expect(stderr).toContain(run!.runId);
    expect(run).toMatchObject({ status: "FINISHED", runName: "tiny-s42" });
    expect(run!.params["growth.sampler.use"] ?? run!.params["growth.sampler"]).toBeDefined();
    expect(run!.params.seed).toBe("42");
    expect(run!.datasets).toMatchObject([{ context: "training" }]);
    expect(run!.tags["espalier.backend"]).toMatch(/^(libtorch|tensorflow|wasm) /);
    expect(run!.tags["mlflow.note.content"]).toContain("TFLOPs");
    const names = (await client.artifacts.list(run!.runId)).map(({ path }) => path);
    expect(names).toEqual(
      expect.arrayContaining(["checkpoints", "definition.yaml", "lock.json", "loss.svg"]),
    );
    const journal = await readMetrics(at("live"));
    const points = await client.metricHistory(run!.runId, "loss");
    expect(points.map(({ step, value }) => [step, value])).toStrictEqual(
      journal.map(({ step, loss }) => [step, loss]),
    );
    expect(run!.metrics["system/cpu_utilization_percentage"]).toBeDefined();
    const [checkpoint] = await client.artifacts.list(run!.runId, "checkpoints");
    const files = await client.artifacts.list(run!.runId, checkpoint!.path);
    expect(files.map(({ path }) => path.split("/").at(-1))).toEqual(
      expect.arrayContaining(["model.safetensors", "optimizer.safetensors", "state.json", "config.json"]),
    );
  });

  it("is sent later, once, however often; another copy of the folder is the same run", async () => {
    const trained = await espalier(
      ["run", "tiny.yaml", "tracking.experiment=later", "tracking.checkpoints=none", "--out", "runs/later"],
      { cwd: folder.path },
    );
    expect(trained.code, trained.stderr).toBe(0);
    const first = await espalier(["sync", "--to", server!.address, "--json"], { cwd: folder.path });
    expect(first.code, first.stderr).toBe(0);
    expect(JSON.parse(first.stdout)).toMatchObject({
      runs: [{ folder: "runs/later", status: "FINISHED", complete: true, problem: null }],
    });
    await cp(at("runs/later"), at("copied/later"), { recursive: true });
    await rm(at("copied/later/mlflow.json"));
    for (const where of ["runs", "copied"]) {
      const again = await espalier(["sync", where, "--to", server!.address], { cwd: folder.path });
      expect(again.code, again.stderr).toBe(0);
    }
    const runs = await runsIn("later");
    expect(runs).toHaveLength(1);
    const journal = await readMetrics(at("runs/later"));
    expect(await client.metricHistory(runs[0]!.runId, "loss")).toHaveLength(journal.length);
    expect((await client.artifacts.list(runs[0]!.runId)).map(({ path }) => path)).not.toContain(
      "checkpoints",
    );
  });

  it("says what is missing: a server, runs, a folder", async () => {
    const without = await espalier(["sync"], { cwd: folder.path });
    expect(without.code).toBe(2);
    expect(without.stderr).toContain("--to");
    const nowhere = await espalier(["sync", "nowhere", "--to", server!.address], { cwd: folder.path });
    expect(nowhere.code).toBe(2);
    expect(nowhere.stderr).toContain("nowhere");
    await writeFile(at("file"), "");
    const none = await espalier(["sync", "copied/later/checkpoints", "--to", server!.address], {
      cwd: folder.path,
    });
    expect(none.code).toBe(2);
    expect(none.stderr).toContain("there are no runs");
    const dead = await espalier(["sync", "runs", "--to", "http://127.0.0.1:9"], { cwd: folder.path });
    expect(dead.code).toBe(1);
    expect(dead.stderr).toContain("nothing is listening there");
  });
});
