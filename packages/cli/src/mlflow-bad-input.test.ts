import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { MlflowClient } from "@espalier/mlflow-js-client";
import { afterAll, describe, expect, it } from "vitest";
import { FaultyProxy, RealServer, selfSigned } from "../../mlflow-js-client/src/real-server.test-support.js";
import { withMlflow } from "../../mlflow-js-client/src/with-mlflow.test-support.js";
import { type Ended, espalier, makeFolder, readLines } from "./testing/espalier.js";
import { expectAsInFolder, readBack } from "./testing/read-back.js";

interface Line {
  readonly step: number;
  readonly event?: string;
  readonly loss?: unknown;
}

// A server that takes everything, and one with MLflow's own basic-auth app, which takes long to check a password: an
// administrator, and a user who may only read.
const admin = { MLFLOW_TRACKING_USERNAME: "admin", MLFLOW_TRACKING_PASSWORD: "password1234" };
const reader = { MLFLOW_TRACKING_USERNAME: "reader", MLFLOW_TRACKING_PASSWORD: "reads but may not write" };

let folder: Awaited<ReturnType<typeof makeFolder>>;
let server: RealServer | undefined;
let guarded: RealServer | undefined;
let client: MlflowClient;
let notMlflow: { readonly process: ChildProcess; readonly address: string };
const proxies: FaultyProxy[] = [];
const page = createServer((_, response) => response.end("<!doctype html><title>Welcome</title>"));
const at = (...path: string[]): string => join(folder.path, ...path);

withMlflow("2.22.5", async (python) => {
  folder = await makeFolder();
  notMlflow = await startPythonsServer();
  page.listen(0, "127.0.0.1");
  await once(page, "listening");
  [server, guarded] = await Promise.all([
    RealServer.start(python),
    RealServer.start(python, {
      args: ["--app-name", "basic-auth"],
      env: { MLFLOW_FLASK_SERVER_SECRET_KEY: "only for tests" },
    }),
  ]);
  client = new MlflowClient({ trackingUri: server.address });
  await makeReader(guarded.address);
  const { experimentId } = await client.getOrCreateExperiment("gone");
  await client.deleteExperiment(experimentId);
  proxies.push(
    await FaultyProxy.start(server.address, () => ({ status: 502, text: "<html>Bad gateway</html>" })),
    await FaultyProxy.start(server.address, () => undefined, await selfSigned(python)),
  );
});
afterAll(async () => {
  notMlflow?.process.kill();
  page.closeAllConnections();
  page.close();
  for (const proxy of proxies) await proxy.stop();
  await Promise.all([server?.stop(), guarded?.stop()]);
  await folder?.remove();
});

/** A user who may read what the administrator made, and nothing else. */
async function makeReader(address: string): Promise<void> {
  const login = { username: admin.MLFLOW_TRACKING_USERNAME, password: admin.MLFLOW_TRACKING_PASSWORD };
  await new MlflowClient({ trackingUri: address, ...login }).getOrCreateExperiment("the administrator's");
  const { MLFLOW_TRACKING_USERNAME: username, MLFLOW_TRACKING_PASSWORD: password } = reader;
  const made = await fetch(`${address}/api/2.0/mlflow/users/create`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Basic ${Buffer.from(`${login.username}:${login.password}`).toString("base64")}`,
    },
    body: JSON.stringify({ username, password }),
  });
  expect(made.status).toBe(200);
}

async function startPythonsServer(): Promise<typeof notMlflow> {
  const free = createTcpServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const { port } = free.address() as AddressInfo;
  free.close();
  const process = spawn("python3", ["-m", "http.server", "--bind", "127.0.0.1", String(port)], {
    cwd: at("."),
    stdio: ["ignore", "ignore", "pipe"],
  });
  const address = `http://127.0.0.1:${port}`;
  for (let isUp = false; !isUp; )
    isUp = await fetch(address).then(
      () => true,
      () => false,
    );
  return { process, address };
}

function run(out: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  return espalier(["run", "tiny.yaml", ...args, "--out", out], { cwd: folder.path, env });
}

function sync(out: string): Promise<Ended> {
  return espalier(["sync", out, "--to", server!.address], { cwd: folder.path });
}

const read = (experiment: string) => readBack(server!.python, server!.address, experiment);

describe("a server that takes nothing", () => {
  const cases: Record<
    string,
    [address: () => string, said: RegExp, more?: NodeJS.ProcessEnv, experiment?: string]
  > = {
    "unknown host": [() => "http://no-such-host.invalid:5000", /no such host|could not be looked up/],
    "refused connection": [() => "http://127.0.0.1:9", /nothing is listening there/],
    "Python's http.server": [() => notMlflow.address, /is it an MLflow server\?/],
    "a web page with status 200": [
      () => `http://127.0.0.1:${(page.address() as AddressInfo).port}`,
      /a web page instead of JSON; is it an MLflow server\?/,
    ],
    "a gateway's web page": [() => proxies[0]!.address, /answered 502 with a web page/],
    "no login": [() => guarded!.address, /refuses \(401\).*MLFLOW_TRACKING_USERNAME and/],
    "a wrong password": [
      () => guarded!.address,
      /refuses \(401\)/,
      { ...admin, MLFLOW_TRACKING_PASSWORD: "sesame" },
    ],
    "a user who may not": [
      () => guarded!.address,
      /refuses \(403\): Permission denied/,
      reader,
      "the administrator's",
    ],
    "a deleted experiment": [
      () => server!.address,
      /experiment "gone" was deleted on .*restore it/,
      admin,
      "gone",
    ],
    "a self-signed certificate": [
      () => proxies[1]!.address,
      /its certificate is self-signed \(MLFLOW_TRACKING_INSECURE_TLS=true accepts it\)/,
    ],
    "a proxy that is not there": [
      () => server!.address,
      /through the proxy 127\.0\.0\.1:9: nothing is listening there/,
      { HTTP_PROXY: "http://127.0.0.1:9", NO_PROXY: "" },
    ],
  };

  it("is told once; the run goes on to its end, and sync sends all of it", async () => {
    const names = Object.keys(cases);
    const train = async (name: string): Promise<void> => {
      const [address, said, env = {}, experiment = "refused"] = cases[name]!;
      const out = `refused/${names.indexOf(name)}`;
      const began = Date.now();
      const { code, stderr } = await run(out, [`tracking.experiment=${experiment}`, "training.steps=4"], {
        ...env,
        MLFLOW_TRACKING_URI: address(),
      });
      expect(code, `${name}: ${stderr}`).toBe(0);
      expect(stderr, name).toMatch(said);
      expect(stderr, name).not.toMatch(/^\s+at /m);
      expect(stderr, name).not.toContain("sesame");
      expect(stderr.match(/the run goes on, its journal is sent later/g), `${name}: ${stderr}`).toHaveLength(
        1,
      );
      expect(stderr, name).toContain("espalier sync or --resume sends the rest");
      expect(await readLines<Line>(at(out, "metrics.jsonl")), name).toHaveLength(4);
      // Whoever waits at the end waits for seconds, not for minutes.
      expect(Date.now() - began, name).toBeLessThan(60_000);
    };
    const queue = [...names];
    const worker = async (): Promise<void> => {
      for (let name = queue.shift(); name !== undefined; name = queue.shift()) await train(name);
    };
    await Promise.all([worker(), worker(), worker()]);

    const { experimentId } = (await client.getExperimentByName("gone"))!;
    await client.restoreExperiment(experimentId);
    const sent = await sync("refused");
    expect(sent.code, sent.stderr).toBe(0);
    const found = (await Promise.all(["refused", "gone", "the administrator's"].map(read))).flat();
    expect(found).toHaveLength(names.length);
    for (const [index, name] of names.entries()) {
      const out = at("refused", String(index));
      const { runId } = JSON.parse(await readFile(join(out, "lock.json"), "utf8")) as { runId: string };
      const there = found.filter(({ tags }) => tags["espalier.runId"] === runId);
      expect(there, name).toHaveLength(1);
      await expectAsInFolder(there[0]!, out);
    }
  }, 240_000);

  it("is accepted with a self-signed certificate where the environment says so, or knows it", async () => {
    await writeFile(at("server.pem"), String(proxies[1]!.tls!.cert));
    for (const env of [
      { MLFLOW_TRACKING_INSECURE_TLS: "true" },
      { MLFLOW_TRACKING_SERVER_CERT_PATH: at("server.pem") },
    ]) {
      const out = `secure/${Object.keys(env)[0]}`;
      const { code, stderr } = await run(out, ["tracking.experiment=secure", "training.steps=4"], {
        ...env,
        MLFLOW_TRACKING_URI: proxies[1]!.address,
      });
      expect(code, stderr).toBe(0);
      expect(stderr).not.toContain("the run goes on");
    }
    expect(await read("secure")).toHaveLength(2);
  });
});

it("a server with MLflow's own log-in takes the environment's", async () => {
  const { code, stderr } = await run("guarded", ["training.steps=4", "tracking.checkpoints=none"], {
    ...admin,
    MLFLOW_TRACKING_URI: guarded!.address,
  });
  expect(code, stderr).toBe(0);
  expect(stderr).not.toContain("the run goes on");
  const { MLFLOW_TRACKING_USERNAME: user, MLFLOW_TRACKING_PASSWORD: password } = admin;
  const through = new MlflowClient({ trackingUri: guarded!.address.replace("//", `//${user}:${password}@`) });
  const { experimentId } = (await through.getExperimentByName("tiny"))!;
  const { items } = await through.searchRuns({ experimentIds: [experimentId] });
  expect(items).toMatchObject([{ status: "FINISHED", metrics: { loss: { step: 4 } } }]);
});

describe("what cannot be meant is refused before anything is computed", () => {
  it.each([
    [
      "a variable",
      [],
      { MLFLOW_TRACKING_INSECURE_TLS: "perhaps" },
      "MLFLOW_TRACKING_INSECURE_TLS: expected true",
    ],
    [
      "a proxy",
      [],
      { HTTP_PROXY: "socks5://127.0.0.1", NO_PROXY: "" },
      "HTTP_PROXY: expected http(s)://host",
    ],
    ["a long name", [`tracking.experiment=${"x".repeat(501)}`], {}, "tracking.experiment"],
  ])("%s", async (_, args, env, said) => {
    const { code, stderr } = await run("never", args, {
      ...admin,
      MLFLOW_TRACKING_URI: server!.address,
      ...env,
    });
    expect(code, stderr).toBe(2);
    expect(stderr).toContain(said);
    expect(stderr).not.toMatch(/^\s+at /m);
    await expect(readdir(at("never"))).rejects.toThrow("ENOENT");
  });
});

it("a param that is there with another value keeps it, the run's own is a tag, and nothing else is lost", async () => {
  const trained = await run("conflict", ["tracking.experiment=conflict"], {});
  expect(trained.code, trained.stderr).toBe(0);
  const { runId } = JSON.parse(await readFile(at("conflict/lock.json"), "utf8")) as { runId: string };
  const { experimentId } = await client.getOrCreateExperiment("conflict");
  const before = await client.createRun({ experimentId, uniqueTag: { key: "espalier.runId", value: runId } });
  await client.logBatch(before.runId, { params: [{ key: "training.batchSize", value: "64" }] });
  const { code, stderr } = await sync("conflict");
  expect(code, stderr).toBe(0);
  const [found] = await read("conflict");
  expect(found).toMatchObject({
    status: "FINISHED",
    params: { "training.batchSize": "64", seed: "42" },
    tags: { "espalier.changed.training.batchSize": "2" },
  });
  expect(found!.points.filter(([key]) => key === "loss")).toHaveLength(12);
});

const oddName = "names-a/b#c?é[1]";

it("a run that diverges is marked as failed; what is not finite is in the journal and in tags, never a metric", async () => {
  const { code, stderr } = await run(
    "diverged",
    [`tracking.experiment=${oddName}`, "training.optimizer.learningRate=1e30", "training.schedule=constant"],
    { MLFLOW_TRACKING_URI: server!.address },
  );
  expect(code).toBe(1);
  expect(stderr).toContain("training diverged");
  const last = (await readLines<Line>(at("diverged/events.jsonl"))).at(-1)!;
  expect(last).toMatchObject({ event: "diverged", loss: expect.stringMatching(/NaN|Infinity/) });
  const [found] = await read(oddName);
  expect(found).toMatchObject({
    status: "FAILED",
    tags: {
      "espalier.diverged": expect.stringMatching(
        new RegExp(`^loss ${last.loss}(, gradient norm [^ ]+)? at step ${last.step}$`),
      ),
    },
  });
  expect(found!.points.every(([, value]) => Number.isFinite(value) && Math.abs(value) < 1e300)).toBe(true);
});

it("a run folder that may only be read is delivered, and says that it cannot note it", async ({ skip }) => {
  const trained = await run("closed", ["tracking.experiment=closed", "training.steps=4"], {});
  expect(trained.code, trained.stderr).toBe(0);
  await chmod(folder.path, 0o755);
  await chmod(at("closed"), 0o555);
  // Permissions do not bind root, so root hands the command to another user.
  const isRoot = process.getuid?.() === 0;
  const sent = await espalier(["sync", "closed", "--to", server!.address], {
    cwd: folder.path,
    ...(isRoot ? { uid: 65_534 } : {}),
  });
  await chmod(at("closed"), 0o755);
  skip(isRoot && /EACCES.*espalier\.js/.test(sent.stderr), "another user may not read this working copy");
  expect(sent.code, sent.stderr).toBe(0);
  expect(sent.stderr).toMatch(/cannot note in closed what was delivered: .*permission denied/);
  const again = await sync("closed");
  expect(again.code, again.stderr).toBe(0);
  const [found, ...others] = await read("closed");
  expect(others).toHaveLength(0);
  await expectAsInFolder(found!, at("closed"));
});

it("a disk that fills up stops the run with a message; what is in the journal is whole, and --resume goes on", async ({
  skip,
}) => {
  const mountable =
    spawnSync("unshare", ["-rm", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]).status === 0;
  skip(!mountable, "this user may not mount a small file system");
  await mkdir(at("disk"));
  // 3 MB, of which a file takes the rest once the first steps are in the journal; it is removed before the run is resumed.
  const shell = `exec unshare -rm bash -c '
mount -t tmpfs -o size=3m tmpfs disk
("$@" --out disk/run; echo $? > disk-code) &
until [ -s disk/run/metrics.jsonl ] || [ -e disk-code ]; do sleep 0.05; done
cat /dev/zero > disk/filler 2>/dev/null
wait
cp -r disk/run full
rm disk/filler
"$@" --out disk/run --resume
code=$?
cp -r disk/run resumed
exit $code' bash "$@"`;
  const { code, stderr } = await espalier(
    [
      ...["run", "tiny.yaml", "tracking.experiment=full", "training.steps=300", "training.batchSize=32"],
      ...["evaluation.every=1000", "checkpoints.every=1000"],
    ],
    { cwd: folder.path, shell, env: { MLFLOW_TRACKING_URI: server!.address } },
  );
  expect((await readFile(at("disk-code"), "utf8")).trim(), stderr).toBe("1");
  expect(stderr).toMatch(/error: cannot write .*metrics\.jsonl: no space left on the disk/);
  expect(stderr).toContain("continue with --resume; what is in the journal is whole");
  expect(code, stderr).toBe(0);
  const full = await readFile(at("full/metrics.jsonl"), "utf8");
  expect(full.endsWith("\n")).toBe(true);
  const resumed = await readFile(at("resumed/metrics.jsonl"), "utf8");
  expect(resumed.startsWith(full)).toBe(true);
  expect((await readLines<Line>(at("resumed/metrics.jsonl"))).map(({ step }) => step)).toEqual(
    Array.from({ length: 300 }, (_, index) => index + 1),
  );
  const [found, ...others] = await read("full");
  expect(others).toHaveLength(0);
  await expectAsInFolder(found!, at("resumed"));
  await rm(at("disk"), { recursive: true, force: true });
}, 120_000);
