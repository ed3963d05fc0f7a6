import { expect, test } from "vitest";
import { MlflowPages, placeOf } from "./mlflow-pages.js";

const address = "http://127.0.0.1:5000";
const runs = [
  { experimentId: "1", runId: "a" },
  { experimentId: "2", runId: "b" },
];

test("MLflow 3 is told that models are trained, in every address", () => {
  const pages = new MlflowPages(address, "3.17.2");
  expect(pages.runs("1")).toBe(`${address}/#/experiments/1/runs?workflowType=machine_learning`);
  expect(pages.charts(["1"])).toBe(`${pages.runs("1")}&compareRunsMode=CHART`);
  expect(pages.charts(["1", "2"])).toBe(
    `${address}/#/compare-experiments/s?experiments=${encodeURIComponent('["1","2"]')}&workflowType=machine_learning&compareRunsMode=CHART`,
  );
  expect(pages.compare(runs)).toBe(
    `${address}/#/compare-runs?runs=${encodeURIComponent('["a","b"]')}&experiments=${encodeURIComponent('["1","2"]')}&workflowType=machine_learning`,
  );
  expect(placeOf(pages.run(runs[1]!))).toStrictEqual(runs[1]);
});

test("MLflow 2 has the runs on the experiment's page", () => {
  const pages = new MlflowPages(address, "2.22.5");
  expect(pages.runs("1")).toBe(`${address}/#/experiments/1`);
  expect(pages.charts(["1"])).toBe(`${address}/#/experiments/1?compareRunsMode=CHART`);
  expect(pages.run(runs[0]!)).toBe(`${address}/#/experiments/1/runs/a`);
});

test("of very many runs the last are compared, so that the address stays usable", () => {
  const many = Array.from({ length: 200 }, (_, index) => ({ experimentId: "1", runId: `run-${index}` }));
  const compared = new MlflowPages(address, "3.17.2").compare(many);
  expect(compared).toContain("run-199");
  expect(compared).not.toContain("run-149");
});
