import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type FromDelivery, optionsVariable, type ToDelivery } from "./delivery-messages.js";
import type { DeliveryResult, MlflowDeliveryOptions } from "./mlflow-delivery.js";

/** Compiled, also where this file runs as TypeScript: Node starts no TypeScript. */
const program = fileURLToPath(
  new URL(
    import.meta.url.endsWith(".ts") ? "../dist/delivery-process.js" : "delivery-process.js",
    import.meta.url,
  ),
);

/**
 * {@link MlflowDelivery} in a process of its own: parsing, sending and measuring cost the training nothing but the other
 * cores' time, and a run that is killed is still delivered to its last line and marked as killed.
 */
export class BackgroundDelivery {
  readonly #child: ChildProcess;
  readonly #done: Promise<DeliveryResult>;
  readonly #note: (line: string) => void;

  private constructor({ note = () => undefined, ...options }: MlflowDeliveryOptions) {
    this.#note = note;
    // A process group of its own: the terminal's Ctrl-C must not reach it.
    this.#child = fork(program, [], {
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      detached: true,
      execArgv: [],
      env: { ...process.env, [optionsVariable]: JSON.stringify(options) },
    });
    this.#done = new Promise((resolve) => {
      const ended = (problem: string): void => resolve({ isComplete: false, url: null, problem });
      this.#child.on("message", (message: FromDelivery) => {
        if (message.kind === "note") note(message.line);
        else resolve(message.result);
      });
      this.#child.on("error", (error) => ended(error.message));
      this.#child.on("exit", (code, signal) =>
        ended(`the delivery ended (${signal ?? `exit code ${code}`})`),
      );
    });
    // It keeps no training alive that is over.
    this.#child.unref();
    this.#child.channel?.unref();
  }

  /** Begins to deliver, and returns at once. Where the process cannot be started the journal keeps everything. */
  static start(options: MlflowDeliveryOptions): BackgroundDelivery {
    return new BackgroundDelivery(options);
  }

  /** Of its process, for those who watch what it costs; `undefined` where it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  /**
   * As {@link MlflowDelivery.finish}: sends the rest. Flush the journal before. Never rejects.
   *
   * @param options `signal` ends the waiting: the delivery then goes on by itself for as long as the server takes
   * something
   */
  async finish(
    status: "FINISHED" | "FAILED" | "KILLED",
    { withinSeconds = 20, signal }: { readonly withinSeconds?: number; readonly signal?: AbortSignal } = {},
  ): Promise<DeliveryResult> {
    this.#child.channel?.ref();
    this.#tell({ kind: "finish", status, withinSeconds });
    const result = await Promise.race([this.#done, left(signal)]);
    this.#child.removeAllListeners();
    if (this.#child.connected) this.#child.disconnect();
    if (!result.isComplete && result.url === null && result.problem?.startsWith("the delivery ended"))
      this.#note(`MLflow has not got all of this run (${result.problem}); espalier sync sends the rest`);
    return result;
  }

  #tell(message: ToDelivery): void {
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }
}

function left(signal: AbortSignal | undefined): Promise<DeliveryResult> {
  return new Promise((resolve) => {
    const leave = (): void => resolve({ isComplete: false, url: null, problem: "nobody waited for it" });
    if (signal?.aborted) leave();
    else signal?.addEventListener("abort", leave, { once: true });
  });
}
