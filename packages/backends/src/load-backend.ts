import { EspalierError, UsageError } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import type { Backend, Capability, LoadedDetails, LoadOptions, Log } from "./backend.js";
import { resolveDevice } from "./device.js";
import { BACKENDS, backendsNamed, requestedBackend } from "./list.js";
import { resolveThreads, type ThreadChoice } from "./threads.js";
import { verifyBackend } from "./verify.js";

/** What {@link loadBackend} is asked for; everything has a default. */
export interface BackendRequest {
  /** `auto` or a backend's name; default `ESPALIER_BACKEND`, else `auto`. */
  readonly backend?: string;
  /** `auto` (a GPU where the library and the machine have one), `cpu`, `cuda:0`, …; default `auto`. */
  readonly device?: string;
  /** Threads of one operator; default `auto`: the cores that this process may use. */
  readonly threads?: ThreadChoice;
  /** Reproducible algorithms only, also where they are slower (a GPU); default false. */
  readonly deterministic?: boolean;
  /** Receives what is worth telling, a line at a time; by default nobody does. */
  readonly log?: Log;
}

/** The backend in use, as a run's lock records it. */
export interface LoadedBackend extends LoadedDetails {
  readonly name: string;
  /** Why this one, and for `auto` why not those before it. */
  readonly why: string;
  /** What it does of itself on this device, and what another way; found out when asked. */
  capabilities(): Promise<readonly Capability[]>;
}

interface Loaded {
  readonly backend: LoadedBackend;
  /** Device and threads as they were asked for. */
  readonly options: LoadOptions;
}

let loaded: Loaded | undefined;
let pending: Promise<unknown> = Promise.resolve();

/**
 * Makes an engine TensorFlow.js's current backend and checks that it computes a product and its gradient exactly.
 * Idempotent within a process: what is loaded is given again where it answers the request.
 *
 * @throws UsageError for a name, device or number of threads that cannot be
 * @throws EspalierError where the backend is not set up (with the command that sets it up), does not load, or a
 *   different native engine is in this process already: two of them in one process disturb each other
 */
export function loadBackend(request: BackendRequest = {}): Promise<LoadedBackend> {
  const result = pending.then(() => load(request));
  pending = result.catch(() => undefined);
  return result;
}

async function load(request: BackendRequest): Promise<LoadedBackend> {
  const name = requestedBackend(request.backend);
  const candidates = backendsNamed(name);
  const device = resolveDevice(request.device);
  const threads = resolveThreads(request.threads);
  const again = loaded === undefined ? null : reuse(loaded, name, device, request.threads);
  if (again !== null) return again;

  const log = request.log ?? (() => undefined);
  const deterministic = request.deterministic ?? false;
  const passedOver: string[] = [];
  const hints: string[] = [];
  for (const backend of candidates) {
    const reason = name === "auto" ? ((await backend.whyNotAutomatic?.()) ?? null) : null;
    if (reason !== null) {
      passedOver.push(`backend ${backend.name} is left out: ${reason}`);
      continue;
    }
    try {
      return await loadOne(backend, { device, threads, deterministic, log }, passedOver, name === "auto");
    } catch (error) {
      // a defect of ours is not hidden behind another backend
      if (name !== "auto" || !(error instanceof EspalierError)) throw error;
      passedOver.push(error.message);
      if (error.hint !== undefined) hints.push(error.hint);
    }
  }
  const message = `no backend can be loaded with device "${device}"\n${passedOver.join("\n")}`;
  // The CPU is always there: another device is then a wrong choice, and libtorch's hint the one to follow.
  if (device !== "auto" && device !== "cpu")
    throw new UsageError("ESPALIER_BACKENDS_NO_DEVICE", message, {
      key: "device",
      hint: hints[0] ?? "espalier doctor lists the GPUs",
    });
  throw new EspalierError("ESPALIER_BACKENDS_NONE", message, {
    key: "backend",
    hint: "espalier doctor says what is missing",
  });
}

async function loadOne(
  backend: Backend,
  options: LoadOptions,
  passedOver: readonly string[],
  isAuto: boolean,
): Promise<LoadedBackend> {
  refuseSecondNative(backend);
  const finding = await backend.find();
  if (!finding.usable) {
    throw new EspalierError(
      "ESPALIER_BACKENDS_NOT_SET_UP",
      `backend ${backend.name} cannot be used: ${finding.why}`,
      { key: "backend", hint: `get it with: ${finding.fix}` },
    );
  }
  const details = await loadEngine(backend, options);
  const reason = isAuto
    ? `the first of ${BACKENDS.map(({ name }) => name).join(", ")} that works: `
    : "asked for: ";
  const skipped = passedOver.length === 0 ? "" : ` (${passedOver.join("; ")})`;
  const result = {
    name: backend.name,
    ...details,
    why: `${reason}${finding.why}${skipped}`,
    capabilities: () => backend.capabilities(details.device),
  };
  loaded = { backend: result, options };
  options.log(
    `backend ${result.name}: ${result.version} on ${result.device}, ${count(result.threads, "thread")}; ${result.why}`,
  );
  return result;
}

async function loadEngine(backend: Backend, options: LoadOptions): Promise<LoadedDetails> {
  try {
    const details = await backend.load(options);
    if (tf.getBackend() !== backend.name)
      throw new Error(`TensorFlow.js did not accept the backend ${backend.name}`);
    await verifyBackend(backend.name);
    return details;
  } catch (error) {
    if (error instanceof EspalierError) throw error;
    const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
    throw new EspalierError("ESPALIER_BACKENDS_LOAD", `backend ${backend.name} does not load: ${reason}`, {
      cause: error,
      hint: `npx espalier setup ${backend.name} renews it`,
    });
  }
}

/** What is loaded, where it answers the new request; null where another backend has to be loaded. */
function reuse(
  current: Loaded,
  name: string,
  device: string,
  threads: ThreadChoice | undefined,
): LoadedBackend | null {
  if (name !== "auto" && name !== current.backend.name) return null;
  const isSameDevice =
    device === "auto" || device === current.options.device || device === current.backend.device;
  const isSameThreads = typeof threads !== "number" || threads === current.options.threads;
  if (!isSameDevice || !isSameThreads) {
    const { device: used, threads: usedThreads } = current.backend;
    throw new EspalierError(
      "ESPALIER_BACKENDS_ALREADY_LOADED",
      `backend ${current.backend.name} is loaded in this process with device ${used} and ${count(usedThreads, "thread")}; asked for device ${device}, threads ${threads ?? "auto"}`,
      { hint: "device and threads are chosen once per process" },
    );
  }
  return current.backend;
}

function refuseSecondNative(backend: Backend): void {
  if (!backend.native) return;
  // TensorFlow.js's own registry is asked: it also knows an engine that was loaded without us
  const other = BACKENDS.find(
    ({ name, native }) => native && name !== backend.name && tf.findBackendFactory(name) != null,
  );
  if (other === undefined) return;
  throw new EspalierError(
    "ESPALIER_BACKENDS_SECOND_NATIVE",
    `backend ${backend.name} cannot be loaded beside ${other.name}: two native engines in one process disturb each other`,
    { hint: "use another process for it" },
  );
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}
