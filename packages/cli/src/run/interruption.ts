/** A signal that training heeds: the first one asks it to stop in order, the second one leaves at once. */
export interface Interruption {
  readonly signal: AbortSignal;
  /** Hands the signals back. */
  release(): void;
}

/** Takes SIGINT and SIGTERM. */
export function heedInterruption(note: (text: string) => void): Interruption {
  const controller = new AbortController();
  const heed = (): void => {
    if (controller.signal.aborted) {
      note("left at once; the last checkpoint is what --resume continues from");
      process.exit(1);
    }
    note("interrupted: finishing the step and writing a checkpoint; once more leaves at once");
    controller.abort();
  };
  process.on("SIGINT", heed);
  process.on("SIGTERM", heed);
  return {
    signal: controller.signal,
    release() {
      process.off("SIGINT", heed);
      process.off("SIGTERM", heed);
    },
  };
}
