import { expect, test } from "vitest";
import { connectionFromEnvironment, connectionOf } from "./connection.js";
import { MlflowInputError } from "./errors.js";
import { tagEquals } from "./filter.js";

const basic = (login: string) => `Basic ${Buffer.from(login).toString("base64")}`;

test("user and password go before the token, and both need each other", () => {
  const uri = { MLFLOW_TRACKING_URI: "https://host/mlflow/" };
  const of = (environment: Record<string, string>) =>
    connectionOf(connectionFromEnvironment({ ...uri, ...environment })).authorization;
  expect(of({})).toBeUndefined();
  expect(of({ MLFLOW_TRACKING_TOKEN: "abc" })).toBe("Bearer abc");
  expect(of({ MLFLOW_TRACKING_USERNAME: "ü", MLFLOW_TRACKING_PASSWORD: "p:w" })).toBe(basic("ü:p:w"));
  expect(
    of({ MLFLOW_TRACKING_USERNAME: "u", MLFLOW_TRACKING_PASSWORD: "p", MLFLOW_TRACKING_TOKEN: "t" }),
  ).toBe(basic("u:p"));
  expect(of({ MLFLOW_TRACKING_USERNAME: "u", MLFLOW_TRACKING_TOKEN: "t" })).toBe("Bearer t");
});

test("the address keeps its path and loses its credentials", () => {
  const connection = connectionOf({ trackingUri: "http://me:se%40cret@host:5000/team/mlflow//" });
  expect(connection.address).toBe("http://host:5000/team/mlflow");
  expect(connection.authorization).toBe(basic("me:se@cret"));
});

test("the other variables of MLflow's client", () => {
  const options = connectionFromEnvironment({
    MLFLOW_TRACKING_URI: "http://host",
    MLFLOW_TRACKING_INSECURE_TLS: "true",
    MLFLOW_HTTP_REQUEST_TIMEOUT: "7",
    MLFLOW_HTTP_REQUEST_MAX_RETRIES: "0",
  });
  expect(options).toMatchObject({ insecureTls: true, timeoutSeconds: 7, retries: 0 });
});

test.each([
  [{}, "MLFLOW_TRACKING_URI"],
  [
    { MLFLOW_TRACKING_URI: "http://host", MLFLOW_TRACKING_INSECURE_TLS: "maybe" },
    "MLFLOW_TRACKING_INSECURE_TLS",
  ],
  [
    { MLFLOW_TRACKING_URI: "http://host", MLFLOW_HTTP_REQUEST_TIMEOUT: "soon" },
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
  ],
  [
    { MLFLOW_TRACKING_URI: "http://host", MLFLOW_TRACKING_SERVER_CERT_PATH: "/nowhere.pem" },
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
  ],
])("what is wrong in the environment is named: %o", (environment, name) => {
  expect(() => connectionFromEnvironment(environment)).toThrow(MlflowInputError);
  expect(() => connectionFromEnvironment(environment)).toThrow(name);
});

test.each(["mlruns", "file:///tmp/mlruns", "sqlite:///mlflow.db", "databricks", ""])(
  "%j is not a server's address",
  (trackingUri) => {
    expect(() => connectionOf({ trackingUri })).toThrow(MlflowInputError);
  },
);

test("quotes in searches", () => {
  expect(tagEquals("espalier.runId", "r-1")).toBe("tags.`espalier.runId` = 'r-1'");
  expect(tagEquals("note", "it's")).toBe('tags.`note` = "it\'s"');
  expect(() => tagEquals("note", `it's "so"`)).toThrow(MlflowInputError);
});
