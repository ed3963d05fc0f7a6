import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Run } from "./answers.js";
import { MlflowClient } from "./client.js";
import { MlflowApiError, MlflowInputError, MlflowResponseError } from "./errors.js";
import { FaultyProxy, serverVersions } from "./real-server.test-support.js";
import { withMlflowServer } from "./with-mlflow.test-support.js";

const versions = Object.keys(serverVersions) as (keyof typeof serverVersions)[];

describe.each(versions)("MLflow %s", (version) => {
  let client: MlflowClient;
  let run: Run;
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "espalier-artifacts-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const mlflow = withMlflowServer(version, async (server) => {
    client = new MlflowClient({ trackingUri: server.address, retries: 4, backoffSeconds: 0.02 });
    const { experimentId } = await client.getOrCreateExperiment("artifacts");
    run = await client.createRun({ experimentId, runName: "files" });
  });

  test("texts, bytes, files and empty files come back as they went", async () => {
    const big = join(folder, "big.bin");
    writeFileSync(big, randomBytes(3_000_001));
    writeFileSync(join(folder, "empty.txt"), "");
    await client.artifacts.upload(run, "notes/größe ö.md", "# größer\n");
    await client.artifacts.upload(run, "bytes.bin", Uint8Array.of(0, 255, 10, 13));
    await client.artifacts.upload(run, "deep/er/big.bin", { file: big });
    await client.artifacts.upload(run, "empty.txt", { file: join(folder, "empty.txt") });

    expect((await client.artifacts.read(run, "notes/größe ö.md")).toString("utf8")).toBe("# größer\n");
    expect([...(await client.artifacts.read(run, "bytes.bin"))]).toStrictEqual([0, 255, 10, 13]);
    expect(await client.artifacts.read(run, "empty.txt")).toHaveLength(0);
    const copy = join(folder, "new", "copy.bin");
    await client.artifacts.download(run, "deep/er/big.bin", copy);
    expect(readFileSync(copy).equals(readFileSync(big))).toBe(true);
    expect(readdirSync(join(folder, "new"))).toStrictEqual(["copy.bin"]);

    const root = await client.artifacts.list(run.runId);
    expect(root.map(({ path, isFolder }) => [path, isFolder]).sort()).toStrictEqual([
      ["bytes.bin", false],
      ["deep", true],
      ["empty.txt", false],
      ["notes", true],
    ]);
    expect(await client.artifacts.list(run.runId, "deep/er")).toStrictEqual([
      { path: "deep/er/big.bin", isFolder: false, size: 3_000_001 },
    ]);
    expect(await client.artifacts.list(run.runId, "nothing")).toStrictEqual([]);
  });

  test("a file is overwritten and removed", async () => {
    await client.artifacts.upload(run, "again.txt", "one");
    await client.artifacts.upload(run, "again.txt", "two");
    expect((await client.artifacts.read(run, "again.txt")).toString()).toBe("two");
    await client.artifacts.delete(run, "again.txt");
    await client.artifacts.delete(run, "again.txt");
    await expect(client.artifacts.read(run, "again.txt")).rejects.toThrow(MlflowApiError);
    const file = join(folder, "never.txt");
    await expect(client.artifacts.download(run, "again.txt", file)).rejects.toThrow(MlflowApiError);
    expect(readdirSync(folder)).not.toContain("never.txt");
  });

  test.each(["../other", "a/../../b", "/a", "a//b", "a/", ".", "a#b", "a\\b", ""])(
    "the path '%s' is refused before it is sent",
    async (path) => {
      await expect(client.artifacts.upload(run, path, "x")).rejects.toThrow(MlflowInputError);
    },
  );

  test("a run whose artifacts the server does not pass on is named", async () => {
    const elsewhere = { runId: run.runId, artifactUri: "s3://bucket/1/artifacts" };
    await expect(client.artifacts.upload(elsewhere, "a", "x")).rejects.toThrow(/--serve-artifacts/);
  });

  test("uploads and downloads survive a server that fails now and then", async () => {
    const bytes = randomBytes(2_000_000);
    const proxy = await FaultyProxy.start(mlflow.server.address, (_, number) =>
      number % 3 === 1 ? { status: 503, text: "busy" } : number % 3 === 2 ? "break after" : undefined,
    );
    try {
      const through = new MlflowClient({ trackingUri: proxy.address, retries: 4, backoffSeconds: 0.01 });
      await through.artifacts.upload(run, "faulty.bin", bytes);
      expect((await through.artifacts.read(run, "faulty.bin")).equals(bytes)).toBe(true);
    } finally {
      await proxy.stop();
    }
  });

  test("a file that cannot be read or written is said at once, and is not the server's fault", async () => {
    await expect(client.artifacts.upload(run, "a.bin", { file: join(folder, "none") })).rejects.toThrow(
      /ENOENT/,
    );
    await client.artifacts.upload(run, "a.txt", "text");
    writeFileSync(join(folder, "file"), "");
    await expect(client.artifacts.download(run, "a.txt", join(folder, "file", "b"))).rejects.toThrow(
      /ENOTDIR|EEXIST/,
    );
  });

  test("data sets are logged once, with their context", async () => {
    const dataset = {
      name: "sotu",
      digest: "0123456789abcdef",
      sourceType: "local",
      source: "embedded",
      profile: JSON.stringify({ sequences: 12 }),
      context: "training",
    };
    await client.logInputs(run.runId, [dataset]);
    await client.logInputs(run.runId, [dataset]);
    expect((await client.getRun(run.runId)).datasets).toStrictEqual([
      { name: "sotu", digest: "0123456789abcdef", context: "training" },
    ]);
    const long = { ...dataset, digest: "x".repeat(37) };
    await expect(client.logInputs(run.runId, [long])).rejects.toThrow(/datasets\[0\]\.digest: 37 characters/);
  });

  test("experiments take tags", async () => {
    await client.setExperimentTag(run.experimentId, { key: "mlflow.note.content", value: "ours" });
    expect((await client.getExperiment(run.experimentId)).tags["mlflow.note.content"]).toBe("ours");
  });

  test("models are logged where the server has them", async () => {
    const model = { experimentId: run.experimentId, name: "apollo", sourceRunId: run.runId };
    if (version === "2.22.5") {
      await expect(client.models.create(model)).rejects.toThrow(MlflowResponseError);
      return;
    }
    const { modelId, status } = await client.models.create({ ...model, modelType: "safetensors" });
    expect(status).toBe("LOGGED_MODEL_PENDING");
    expect((await client.models.finish(modelId, "READY")).status).toBe("LOGGED_MODEL_READY");
    await client.models.addToRun(run.runId, modelId, 3);
    await expect(client.models.create({ ...model, name: "a/b" })).rejects.toThrow(MlflowInputError);
  });
});
