import { UsageError } from "@espalier/core";
import { expect, test } from "vitest";
import { trackingTarget } from "./tracking-target.js";

const uri = "http://127.0.0.1:5000";

test("auto follows MLFLOW_TRACKING_URI, with its credentials", () => {
  expect(trackingTarget("auto", {})).toStrictEqual({
    connection: null,
    why: "MLFLOW_TRACKING_URI is not set",
  });
  const { connection } = trackingTarget("auto", { MLFLOW_TRACKING_URI: uri, MLFLOW_TRACKING_TOKEN: "t" });
  expect(connection).toMatchObject({ trackingUri: uri, token: "t" });
});

test.each(["mlruns", "file:///mlruns", "sqlite:///mlflow.db", "databricks"])(
  "%j in the environment is passed over, in a definition it is an error",
  (address) => {
    const target = trackingTarget("auto", { MLFLOW_TRACKING_URI: address });
    expect(target.connection).toBeNull();
    expect(target.why).toContain(address);
    expect(() => trackingTarget(address, {})).toThrow(UsageError);
    expect(() => trackingTarget(address, {})).toThrow(/tracking\.uri: expected auto, none or http/);
  },
);

test("a server that is named goes before the environment, and none before all", () => {
  const environment = { MLFLOW_TRACKING_URI: "http://elsewhere" };
  expect(trackingTarget(uri, environment).connection?.trackingUri).toBe(uri);
  expect(trackingTarget("none", environment).connection).toBeNull();
});

test("a wrong variable of MLflow's client is a wrong use", () => {
  const environment = { MLFLOW_TRACKING_URI: uri, MLFLOW_TRACKING_INSECURE_TLS: "perhaps" };
  expect(() => trackingTarget("auto", environment)).toThrow(UsageError);
});
