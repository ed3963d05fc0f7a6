const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const samePressMilliseconds = 500;

/** The wish to end: the first signal asks for it, the second one leaves at once. */
export interface Stop {
  readonly signal: AbortSignal;
  /** Hands the signals back. */
  release(): void;
}

export function heedStop(note: (line: string) => void): Stop {
  const controller = new AbortController();
  let last = 0;
  const heed = (): void => {
    const now = performance.now();
    // The same key press: a terminal sends it to a whole process group, and npx passes it on once more.
    if (controller.signal.aborted && now - last < samePressMilliseconds) return;
    last = now;
    if (controller.signal.aborted) process.exit(1);
    note("stopping");
    controller.abort();
  };
  for (const name of signals) process.on(name, heed);
  return {
    signal: controller.signal,
    release() {
      for (const name of signals) process.off(name, heed);
    },
  };
}
