import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { MlflowClient, type Run } from "@espalier/mlflow-js-client";
import { readEvents } from "@espalier/tracking";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { installMlflow, serverVersions } from "../../mlflow-js-client/src/real-server.test-support.js";
import { findChromium, MlflowBrowser, missingChromium } from "./testing/browser.js";
import { espalier, makeFolder } from "./testing/espalier.js";
import { isRunning, RunningUi } from "./testing/running-ui.js";

const root = join(import.meta.dirname, "..", "..", "..");
const version = "2.22.5";

describe(`espalier ui with MLflow ${version}, named by ESPALIER_MLFLOW`, { retry: 2 }, () => {
  let folder: Awaited<ReturnType<typeof makeFolder>>;
  let ui: RunningUi;
  let runs: readonly Run[] = [];
  let browser: MlflowBrowser | undefined;
  let missing: string | undefined;
  const at = (name: string) => join(folder.path, name);

  beforeAll(async () => {
    folder = await makeFolder();
    const chromium = findChromium();
    const installation = await installMlflow(version);
    if ("missing" in installation || chromium === undefined) {
      missing = "missing" in installation ? installation.missing : missingChromium;
      console.warn(`skipped: ${missing}`);
      return;
    }
    for (const name of ["first", "second"]) {
      const size = ["model.hiddenSize=64", "training.batchSize=16", "evaluation.every=3"];
      const { code, stderr } = await espalier(
        ["run", "tiny.yaml", `name=${name}`, "tracking.experiment=ours", ...size, "--out", `runs/${name}`],
        { cwd: folder.path },
      );
      expect(code, stderr).toBe(0);
    }
    await mkdir(at("home"));
    ui = await RunningUi.start([], {
      cwd: folder.path,
      env: { ESPALIER_HOME: at("home"), ESPALIER_MLFLOW: join(root, serverVersions[version].folder) },
    });
    const client = new MlflowClient({ trackingUri: ui.address });
    const { experimentId } = (await client.getExperimentByName("ours"))!;
    runs = (await client.searchRuns({ experimentIds: [experimentId] })).items;
    browser = await MlflowBrowser.start(chromium);
  }, 900_000);
  afterAll(async () => {
    await browser?.stop();
    await ui?.stop("SIGTERM");
    await folder?.remove();
  });
  beforeEach(({ skip }) => {
    skip(missing !== undefined, missing);
  });

  it("charts: the evaluation loss against FLOPs as in the journal, in the runs' colours", async () => {
    expect(runs).toHaveLength(2);
    expect(ui.stdout).toContain(`MLflow ${version} has 2 runs`);
    await browser!.open(ui.page("charts"), ".js-plotly-plot");
    const { traces } = await browser!.chart("evaluation-by-gflops/loss");
    for (const name of ["first", "second"]) {
      const trace = traces.find((one) => one.name.startsWith(`${name}-s42`))!;
      const evaluations = (await readEvents(at(`runs/${name}`))).filter(
        (event) => event.event === "evaluation",
      );
      expect(trace.y).toStrictEqual(evaluations.map(({ loss }) => loss));
      const run = runs.find(({ runName }) => runName === `${name}-s42`)!;
      expect(trace.colour).toBe(run.tags["mlflow.runColor"]);
    }
    await browser!.screenshot(`charts-${version}`);
  });

  it("the run that espalier run names, and compare", async () => {
    const { experimentId, runId } = runs[0]!;
    const address = `${ui.address}/#/experiments/${experimentId}/runs/${runId}?workflowType=machine_learning`;
    const page = await browser!.open(address, "text=Parameters (");
    const text = await page.textContent("body");
    expect(text).toContain("growth.sampler.use");
    expect(text).toContain("1 → 2 layers after step");
    await browser!.screenshot(`run-${version}`);
    await browser!.open(ui.page("compare"), ".js-plotly-plot");
    expect(await page.textContent("body")).toContain("Comparing 2 Runs from 1 Experiment");
    await browser!.screenshot(`compare-${version}`);
    expect(browser!.errors).toStrictEqual([]);
  });

  it("stops all of the server's processes", async () => {
    const server = await ui.serverProcess(at("home"));
    expect(isRunning(server)).toBe(true);
    expect(await ui.stop("SIGINT")).toBe(0);
    expect(isRunning(server)).toBe(false);
  });
});
