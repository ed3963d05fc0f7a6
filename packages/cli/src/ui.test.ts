import { once } from "node:events";
import { appendFile, cp, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { MlflowClient, type Run } from "@espalier/mlflow-js-client";
import { readEvents, readMetrics } from "@espalier/tracking";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { installMlflow } from "../../mlflow-js-client/src/real-server.test-support.js";
import { findChromium, MlflowBrowser, missingChromium } from "./testing/browser.js";
import { espalier, makeFolder } from "./testing/espalier.js";
import { isRunning, RunningUi } from "./testing/running-ui.js";

const root = join(import.meta.dirname, "..", "..", "..");
/** A little more than a second, and some GFLOPs. */
const size = [
  "model.hiddenSize=64",
  "training.batchSize=16",
  "evaluation.every=3",
  "tracking.experiment=ours",
];
const scratch = ["growth.preset=scratch", "growth.schedule=scratch"];

describe("espalier ui", () => {
  let folder: Awaited<ReturnType<typeof makeFolder>>;
  let ui: RunningUi;
  let client: MlflowClient;
  let missing: string | undefined;
  const at = (name: string) => join(folder.path, name);
  // A home of its own, so that a developer's runs are left alone; with the MLflow that the tests share.
  const place = () => ({ cwd: folder.path, env: { ESPALIER_HOME: at("home") } });

  beforeAll(async () => {
    folder = await makeFolder();
    const installation = await installMlflow();
    if ("missing" in installation) {
      missing = installation.missing;
      console.warn(`skipped: ${missing}`);
      return;
    }
    await mkdir(at("home"));
    await symlink(join(root, ".venv-mlflow"), at("home/.venv-mlflow"));
    await Promise.all([
      train("apollo", [], 0),
      train("scratch", scratch, 0),
      train("diverging", ["training.optimizer.learningRate=1e30"], 1),
    ]);
    await spoilLoss(at("runs/diverging"));
    await cp(at("runs/apollo"), at("runs/damaged"), { recursive: true });
    await writeFile(at("runs/damaged/lock.json"), '{"lockVersion":1}');
    ui = await RunningUi.start([], place());
    client = new MlflowClient({ trackingUri: ui.address });
  }, 900_000);
  afterAll(async () => {
    await ui?.stop("SIGTERM");
    await folder?.remove();
  });
  beforeEach(({ skip }) => {
    skip(missing !== undefined, missing);
  });

  async function train(name: string, changes: readonly string[], code: number): Promise<void> {
    const trained = await espalier(
      ["run", "tiny.yaml", `name=${name}`, ...size, ...changes, "--out", `runs/${name}`],
      { cwd: folder.path },
    );
    expect(trained.code, trained.stderr).toBe(code);
  }

  async function runsIn(experiment: string): Promise<readonly Run[]> {
    const { experimentId } = (await client.getExperimentByName(experiment))!;
    return (await client.searchRuns({ experimentIds: [experimentId] })).items;
  }

  it("brings every run once, in colours that differ, and tells of the one that is damaged", async () => {
    const runs = await runsIn("ours");
    expect(runs.map(({ runName, status }) => `${runName} ${status}`).sort()).toStrictEqual([
      "apollo-s42 FINISHED",
      "diverging-s42 FAILED",
      "scratch-s42 FINISHED",
    ]);
    expect(new Set(runs.map(({ tags }) => tags["mlflow.runColor"])).size).toBe(3);
    expect(ui.stderr).toContain("runs/damaged: not brought: the lock is damaged");
    expect(ui.stdout).toContain("has 3 runs:");
    for (const { runId } of runs) expect(ui.page("compare")).toContain(runId);
    expect(ui.page("charts")).toContain("workflowType=machine_learning");
  });

  // Another program's pages, drawn in their own time: on a busy machine one of them may come too late once.
  describe("MLflow's pages", { retry: 2 }, () => {
    let browser: MlflowBrowser;
    const chromium = findChromium();

    beforeAll(async () => {
      if (missing === undefined && chromium !== undefined) browser = await MlflowBrowser.start(chromium);
      else console.warn(missing ?? missingChromium);
    });
    afterAll(() => browser?.stop());
    beforeEach(({ skip }) => {
      skip(chromium === undefined, missingChromium);
    });

    async function runOf(name: string): Promise<Run> {
      return (await runsIn("ours")).find(({ runName }) => runName === `${name}-s42`)!;
    }

    it("charts: all runs, each in its colour, the evaluation loss against FLOPs as in the journal", async () => {
      await browser.open(ui.page("charts"), ".js-plotly-plot");
      const { traces } = await browser.chart("evaluation-by-gflops/loss");
      for (const name of ["apollo", "scratch"]) {
        const trace = traces.find((one) => one.name.startsWith(`${name}-s42`))!;
        const evaluations = (await readEvents(at(`runs/${name}`))).filter(
          (event) => event.event === "evaluation",
        );
        expect(evaluations.length).toBe(4);
        expect(trace.x).toStrictEqual(evaluations.map(({ flops }) => Math.round(flops / 1e9)));
        expect(trace.y).toStrictEqual(evaluations.map(({ loss }) => loss));
        expect(trace.colour).toBe((await runOf(name)).tags["mlflow.runColor"]);
      }
      const loss = await browser.chart("loss");
      expect(new Set(loss.traces.map(({ colour }) => colour)).size).toBeGreaterThanOrEqual(3);
      await browser.screenshot("charts");
    });

    it("a run: its description, growth, parameters and metrics", async () => {
      const apollo = await runOf("apollo");
      const address = `${ui.address}/#/experiments/${apollo.experimentId}/runs/${apollo.runId}`;
      const page = await browser.open(`${address}?workflowType=machine_learning`, "text=Parameters (");
      const text = await page.textContent("body");
      expect(text).toContain("growth.sampler.use");
      expect(text).toContain("1 → 2 layers after step");
      expect(text).toContain("2 → 4 layers after step");
      expect(text).toMatch(/evaluation loss \d/);
      expect(text).toContain(String(apollo.metrics.finalEvalLoss!.value));
      await browser.screenshot("run");
      await browser.open(`${address}/model-metrics?workflowType=machine_learning`, ".js-plotly-plot");
      const metrics = await readMetrics(at("runs/apollo"));
      // The run's page leaves the group out of a title.
      const depth = await browser.chart("depth");
      expect(depth.traces.some(({ y }) => y.length > 0)).toBe(true);
      const rate = await browser.chart("learningRate");
      expect(rate.traces[0]!.y).toStrictEqual(metrics.map(({ learningRate }) => learningRate));
      await browser.screenshot("run-metrics");
      await browser.open(`${address}/artifacts/growth.json?workflowType=machine_learning`, "text=layerMap");
    });

    it("a run whose loss was not a number", async () => {
      const run = await runOf("diverging");
      const address = `${ui.address}/#/experiments/${run.experimentId}/runs/${run.runId}`;
      const page = await browser.open(`${address}?workflowType=machine_learning`, "text=Parameters (");
      const text = await page.textContent("body");
      expect(text).toContain("Failed");
      expect(text).toContain("NaN at step 2");
      await browser.screenshot("run-not-a-number");
      await browser.open(`${address}/model-metrics?workflowType=machine_learning`, ".js-plotly-plot");
      expect((await browser.chart("loss")).traces[0]!.y).toHaveLength(1);
    });

    it("compare: parameters and metrics of all runs side by side", async () => {
      const page = await browser.open(ui.page("compare"), ".js-plotly-plot");
      const text = await page.textContent("body");
      expect(text).toContain("Comparing 3 Runs from 1 Experiment");
      for (const name of ["apollo", "scratch", "diverging"]) expect(text).toContain(`${name}-s42`);
      for (const key of ["growth.sampler.use", "training.optimizer.learningRate", "evaluation/loss"])
        expect(text).toContain(key);
      await browser.screenshot("compare");
    });

    it("runs: a table of them, with no word of GenAI's evaluations", async () => {
      const page = await browser.open(ui.page("runs"), "text=3 matching runs");
      // the number of runs is there before the rows are
      await page.getByText("apollo-s42").first().waitFor();
      expect(await page.getByText("apollo-s42").count()).toBe(1);
      expect(await page.getByText("Evaluation runs").count()).toBe(0);
      await browser.screenshot("runs");
    });

    it("break nowhere, and ask nobody but the server", () => {
      expect(browser.errors).toStrictEqual([]);
      expect(browser.outside).toStrictEqual([]);
    });
  });

  it("follows a run while it trains, and marks it when it has ended", async () => {
    let stopsAt: (() => void) | undefined;
    const training = espalier(
      ["run", "tiny.yaml", "name=live", ...size, "training.steps=5000", "--out", "runs/live"],
      {
        cwd: folder.path,
        onStderr: (_text, child) => {
          stopsAt = () => child.kill("SIGINT");
        },
      },
    );
    const live = () => runsIn("ours").then((runs) => runs.find(({ runName }) => runName === "live-s42"));
    await vi.waitFor(
      async () => {
        const run = await live();
        expect(run).toMatchObject({ status: "RUNNING" });
        expect(run!.metrics.loss).toBeDefined();
      },
      { timeout: 40_000, interval: 300 },
    );
    stopsAt!();
    expect((await training).code).toBe(1);
    await vi.waitFor(async () => expect(await live()).toMatchObject({ status: "KILLED" }), {
      timeout: 20_000,
      interval: 300,
    });
    const points = await client.metricHistory((await live())!.runId, "loss");
    const journal = await readMetrics(at("runs/live"));
    expect(points.map(({ step, value }) => [step, value])).toStrictEqual(
      journal.map(({ step, loss }) => [step, loss]),
    );
    expect(ui.stderr).toContain("runs/live: training, followed live");
  });

  it("is one at a time: another one uses the server that runs, and so does --server", async () => {
    const second = await espalier(["ui", "runs/apollo"], place());
    expect(second.code, second.stderr).toBe(0);
    expect(second.stdout).toContain(`The server is run by process ${ui.child.pid}`);
    expect(second.stdout).toContain(`${ui.address}/#/experiments/`);
    const elsewhere = await espalier(["ui", "--port", "9"], place());
    expect(elsewhere.code).toBe(1);
    expect(elsewhere.stderr).toContain(`runs already, at ${ui.address}`);
    const named = await RunningUi.start(["--server", ui.address, "runs/scratch"], place());
    expect(named.stdout).toContain("has 1 run:");
    expect(await named.stop("SIGINT")).toBe(0);
    expect(await runsIn("ours")).toHaveLength(4);
  });

  it("leaves no server behind: neither killed nor stopped; the next one shows the same", async () => {
    const before = (await runsIn("ours")).map(({ runId }) => runId).sort();
    const { address } = ui;
    const orphan = await ui.serverProcess(at("home"));
    await ui.stop("SIGKILL");
    expect(isRunning(orphan)).toBe(true);
    ui = await RunningUi.start([], place());
    expect(ui.stderr).toContain("left behind");
    expect(isRunning(orphan)).toBe(false);
    expect(ui.address).toBe(address);
    expect((await runsIn("ours")).map(({ runId }) => runId).sort()).toStrictEqual(before);
    const server = await ui.serverProcess(at("home"));
    expect(await ui.stop("SIGINT")).toBe(0);
    expect(isRunning(server)).toBe(false);
    await expect(fetch(`${address}/health`)).rejects.toThrow();
  });

  it("says what is wrong: folder, port, Python, MLflow, server, network", async () => {
    const nowhere = await espalier(["ui", "nowhere"], place());
    expect(nowhere.code).toBe(2);
    expect(nowhere.stderr).toContain('"nowhere"');
    const port = await espalier(["ui", "--port", "many"], place());
    expect(port.code).toBe(2);
    expect(port.stderr).toContain("expected a number from 1 to 65535");
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const number = (taken.address() as { readonly port: number }).port;
    const inUse = await espalier(["ui", "--port", String(number)], place());
    taken.close();
    expect(inUse.code).toBe(1);
    expect(inUse.stderr).toContain(`port ${number} of 127.0.0.1: it is in use`);
    const chosen = { ...place(), env: { ...place().env, ESPALIER_MLFLOW: process.execPath } };
    const noMlflow = await espalier(["ui"], chosen);
    expect(noMlflow.code).toBe(2);
    expect(noMlflow.stderr).toContain("in which Python finds no mlflow");
    const nobody = await espalier(["ui", "--server", "http://127.0.0.1:9"], place());
    expect(nobody.code).toBe(1);
    expect(nobody.stderr).toContain("nothing is listening there");
    const fresh = { cwd: folder.path, env: { ESPALIER_HOME: at("fresh") } };
    const noPython = await espalier(["ui"], { ...fresh, env: { ...fresh.env, PATH: at("nothing") } });
    expect(noPython.code).toBe(1);
    expect(noPython.stderr).toContain("Python 3.10 or newer is needed");
    const noNetwork = await espalier(["ui"], {
      ...fresh,
      env: {
        ...fresh.env,
        PIP_INDEX_URL: "http://127.0.0.1:9/simple",
        PIP_RETRIES: "0",
        PIP_NO_CACHE_DIR: "1",
      },
    });
    expect(noNetwork.code).toBe(1);
    expect(noNetwork.stderr).toMatch(/package index|network/);
  });
});

/** Adds a step whose loss is not a number to a run's journal, as a run has it that goes on nevertheless. */
async function spoilLoss(run: string): Promise<void> {
  const file = join(run, "metrics.jsonl");
  const line = JSON.parse((await readFile(file, "utf8")).trim().split("\n").at(-1)!) as { step: number };
  await appendFile(file, `${JSON.stringify({ ...line, step: line.step + 1, loss: "NaN" })}\n`);
}
