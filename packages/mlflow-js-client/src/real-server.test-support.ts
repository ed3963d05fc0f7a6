import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer, type ServerOptions } from "node:https";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as wait } from "node:timers/promises";

const root = join(import.meta.dirname, "..", "..", "..");
const emptyDatabaseName = "espalier-empty.db";

/**
 * The servers that are tested against: the one that `espalier ui` installs, and the last of MLflow 2, which many groups
 * still run (with what its server and web page need, not what all of it would bring along; it does not start with
 * SQLAlchemy 2.1).
 */
export const serverVersions = {
  "3.17.2": { folder: ".venv-mlflow", requirements: ["mlflow==3.17.2"], alone: [] },
  "2.22.5": {
    folder: ".venv-mlflow2",
    requirements: [
      "mlflow-skinny==2.22.5",
      "flask<4",
      "gunicorn<24",
      "sqlalchemy<2.1",
      "alembic",
      "graphene<4",
      "pandas<3",
      "pyarrow<20",
      "setuptools<81",
      // For its basic-auth app.
      "flask-wtf<2",
    ],
    // The web page; without its dependencies.
    alone: ["mlflow==2.22.5"],
  },
} as const;

/** Where a real MLflow is installed, or why it is not. */
export type Installation = { readonly python: string } | { readonly missing: string };

/**
 * A real MLflow server in a virtual environment of its own, installed at its first use and kept. Test files of several
 * processes may ask at once: one installs, the others wait.
 */
export async function installMlflow(version: keyof typeof serverVersions = "3.17.2"): Promise<Installation> {
  const { folder, requirements, alone } = serverVersions[version];
  const environment = join(root, folder);
  const lock = `${environment}.lock`;
  const python = join(environment, "bin", "python");
  const marker = join(environment, "espalier-requirements.json");
  const wanted = JSON.stringify([...requirements, ...alone]);
  const isReady = () => existsSync(marker) && readFileSync(marker, "utf8") === wanted;
  const pip = (...given: readonly string[]) =>
    problemOf(
      python,
      ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...given],
      "pip could not install it",
    );
  while (!isReady()) {
    if (!takeLock(lock)) {
      await wait(500);
      continue;
    }
    const holding = setInterval(() => utimesSync(lock, new Date(), new Date()), 2000);
    try {
      // Another version has other tables.
      rmSync(join(environment, emptyDatabaseName), { force: true });
      const problem =
        (await problemOf("python3", ["-m", "venv", environment], "a Python 3.10+ with venv is needed")) ??
        (await pip(...requirements)) ??
        (alone.length === 0 ? undefined : await pip("--no-deps", ...alone));
      if (problem !== undefined) return { missing: `no MLflow server to test against: ${problem}` };
      writeFileSync(marker, wanted);
    } finally {
      clearInterval(holding);
      rmSync(lock, { recursive: true, force: true });
    }
  }
  return { python };
}

function takeLock(lock: string): boolean {
  try {
    mkdirSync(lock);
    return true;
  } catch {
    // The one that holds it touches it; a killed one does not.
    if (existsSync(lock) && Date.now() - statSync(lock).mtimeMs > 20_000)
      rmSync(lock, { recursive: true, force: true });
    return false;
  }
}

async function problemOf(command: string, args: string[], what: string): Promise<string | undefined> {
  const { code, output } = await runToEnd(command, args);
  return code === 0 ? undefined : `${what}: ${output.trim().split("\n").slice(-3).join(" | ")}`;
}

/** Runs a command and gives its exit code and output. */
export async function runToEnd(
  command: string,
  args: readonly string[],
): Promise<{ code: number | null; output: string }> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (part) => {
    output += part;
  });
  child.stderr.on("data", (part) => {
    output += part;
  });
  try {
    const [code] = await once(child, "close");
    return { code, output };
  } catch (error) {
    return { code: 1, output: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * A database as a server leaves it at its first start: made once per installation, because every migration of MLflow runs
 * for it, which takes as long as the rest of the start. Null where this MLflow makes it otherwise; then the server does.
 * Servers that start side by side, in one process or in several, each make one of their own, and the last one stays.
 */
async function emptyDatabase(python: string): Promise<string | null> {
  const environment = join(dirname(python), "..");
  const kept = join(environment, emptyDatabaseName);
  if (existsSync(kept)) return kept;
  const folder = mkdtempSync(join(environment, "espalier-empty-"));
  try {
    const made = join(folder, emptyDatabaseName);
    const { code } = await runToEnd(python, [
      "-c",
      `import sys
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore("sqlite:///" + sys.argv[1], "mlflow-artifacts:/").engine.dispose()`,
      made,
    ]);
    if (code !== 0) return null;
    renameSync(made, kept);
    return kept;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What a {@link RealServer} is started with beside the usual. */
export interface ServerChanges {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** A running MLflow server over a database of its own in a temporary folder. */
export class RealServer {
  #process: ChildProcess | undefined;
  readonly #folder = mkdtempSync(join(tmpdir(), "espalier-mlflow-"));
  readonly #onExit = () => this.#signal("SIGKILL");

  private constructor(
    readonly python: string,
    readonly port: number,
    readonly changes: ServerChanges,
  ) {}

  static async start(python: string, changes: ServerChanges = {}): Promise<RealServer> {
    const server = new RealServer(python, await freePort(), changes);
    process.on("exit", server.#onExit);
    try {
      const empty = await emptyDatabase(python);
      if (empty !== null) copyFileSync(empty, server.#database);
      await server.start();
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  get address(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get #database(): string {
    return join(this.#folder, "mlflow.db");
  }

  /** Starts it (again), with the data that it had. */
  async start(): Promise<void> {
    const log = join(this.#folder, "server.log");
    const output = openSync(log, "a");
    const child = spawn(
      this.python,
      [
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        `sqlite:///${this.#database}`,
        "--artifacts-destination",
        join(this.#folder, "artifacts"),
        "--host",
        "127.0.0.1",
        "--port",
        String(this.port),
        "--workers",
        "1",
        ...(this.changes.args ?? []),
      ],
      {
        cwd: this.#folder,
        // A process group of its own: the server has children, and all of them must go.
        detached: true,
        stdio: ["ignore", output, output],
        env: {
          ...process.env,
          MLFLOW_SERVER_ENABLE_JOB_EXECUTION: "false",
          MLFLOW_DISABLE_TELEMETRY: "true",
          ...this.changes.env,
        },
      },
    );
    this.#process = child;
    for (let attempt = 0; attempt < 1000; attempt++) {
      if (child.exitCode !== null)
        throw new Error(`the MLflow server ended by itself:\n${readFileSync(log, "utf8").slice(-3000)}`);
      const isUp = await fetch(`${this.address}/health`).then(
        (answer) => answer.ok,
        () => false,
      );
      if (isUp) return;
      await wait(200);
    }
    throw new Error(`the MLflow server did not come up:\n${readFileSync(log, "utf8").slice(-3000)}`);
  }

  /** Ends it at once, as a crash does. Its data stays. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Ends it, and removes its data. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
    process.off("exit", this.#onExit);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    this.#signal(signal);
    await gone;
    this.#process = undefined;
  }

  #signal(signal: NodeJS.Signals): void {
    const pid = this.#process?.pid;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // Gone already.
    }
  }
}

async function freePort(): Promise<number> {
  const server = createTcpServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/**
 * What a {@link FaultyProxy} does with a request instead of passing it on: it answers itself, breaks the connection, or
 * lets it wait first. (`"break after"`: when the server has acted; `"break within"`: in the middle of the answer.)
 */
export type Interference =
  | { readonly waitMilliseconds: number }
  | { readonly status: number; readonly text: string; readonly headers?: Record<string, string> }
  | "break before"
  | "break after"
  | "break within"
  | "never answer"
  | undefined;

/**
 * A small proxy before a real server that can go wrong on purpose, and counts what passes. Clients may also be told to
 * use it as their proxy (`HTTP_PROXY`, `HTTPS_PROXY`).
 */
export class FaultyProxy {
  readonly requests: string[] = [];
  readonly #server: Server;
  readonly #tunnels = new Set<Duplex>();
  #port = 0;

  private constructor(
    readonly target: string,
    interfere: (request: IncomingMessage, number: number) => Interference,
    readonly tls: ServerOptions | undefined,
  ) {
    const listener: RequestListener = (request, response) => {
      this.requests.push(`${request.method} ${request.url}`);
      void this.#pass(request, response, interfere(request, this.requests.length));
    };
    this.#server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
    this.#server.on("connect", (request, socket, head) => {
      this.requests.push(`CONNECT ${request.url}`);
      const { hostname, port } = new URL(`http://${request.url}`);
      this.#tunnels.add(socket);
      const onward = connect(Number(port), hostname, () => {
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        onward.write(head);
        onward.pipe(socket).pipe(onward);
      });
      onward.on("error", () => socket.destroy());
      socket.on("close", () => this.#tunnels.delete(socket));
      socket.on("error", () => onward.destroy());
    });
  }

  /**
   * @param interfere is asked for each request; `number` counts from 1
   * @param tls key and certificate, to speak https
   */
  static async start(
    target: string,
    interfere: (request: IncomingMessage, number: number) => Interference,
    tls?: ServerOptions,
  ): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(target, interfere, tls);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    proxy.#port = (proxy.#server.address() as AddressInfo).port;
    return proxy;
  }

  get address(): string {
    return `${this.tls === undefined ? "http" : "https"}://127.0.0.1:${this.#port}`;
  }

  async stop(): Promise<void> {
    for (const tunnel of this.#tunnels) tunnel.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #pass(request: IncomingMessage, response: ServerResponse, interference: Interference): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part);
    if (interference === "never answer") return;
    if (interference === "break before") {
      request.socket.destroy();
      return;
    }
    if (typeof interference === "object" && "waitMilliseconds" in interference)
      await wait(interference.waitMilliseconds);
    else if (typeof interference === "object") {
      response.writeHead(interference.status, interference.headers).end(interference.text);
      return;
    }
    const onward = httpRequest(
      new URL(request.url ?? "/", this.target),
      { method: request.method, headers: { ...request.headers, host: new URL(this.target).host } },
      (answer) => {
        if (interference === "break after") {
          answer.resume().on("end", () => request.socket.destroy());
          return;
        }
        if (interference === "break within") {
          response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
          response.write('{"run":', () => request.socket.destroy());
          answer.resume();
          return;
        }
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    onward.on("error", () => request.socket.destroy());
    onward.end(Buffer.concat(parts));
  }
}

/** A self-signed certificate for 127.0.0.1 and its key, as PEM, made by the Python of an MLflow server. */
export async function selfSigned(python: string): Promise<{ readonly key: string; readonly cert: string }> {
  const { code, output } = await runToEnd(python, [
    "-c",
    `import datetime, ipaddress, json
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
now = datetime.datetime.now(datetime.timezone.utc)
cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
  .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
  .not_valid_after(now + datetime.timedelta(days=1))
  .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
  .sign(key, hashes.SHA256()))
print(json.dumps({"cert": cert.public_bytes(serialization.Encoding.PEM).decode(), "key": key.private_bytes(
  serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()}))`,
  ]);
  if (code !== 0) throw new Error(`no certificate: ${output}`);
  return JSON.parse(output) as { key: string; cert: string };
}
