import type { MlflowServer } from "./mlflow-server.js";

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** The wish to end: the first signal asks for it, the second one leaves at once. Either way no server stays behind. */
export interface Stop {
  readonly signal: AbortSignal;
  /** Ended with this process, whatever ends that. */
  server: MlflowServer | null;
  /** Hands the signals back. */
  release(): void;
}

export function heedStop(note: (line: string) => void): Stop {
  const controller = new AbortController();
  const atExit = (): void => stop.server?.kill();
  const heed = (): void => {
    if (controller.signal.aborted) process.exit(1);
    note("stopping");
    controller.abort();
  };
  const stop: Stop = {
    signal: controller.signal,
    server: null,
    release() {
      for (const name of signals) process.off(name, heed);
      process.off("exit", atExit);
    },
  };
  for (const name of signals) process.on(name, heed);
  process.on("exit", atExit);
  return stop;
}
