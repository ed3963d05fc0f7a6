import type { WriteStream } from "node:tty";
import { Presets, SingleBar } from "cli-progress";

/**
 * Told how far a long piece of work is.
 *
 * @param stage what is being done, as a phrase: `tokenizing sotu`
 * @param done in the stage's own unit (bytes, tokens), ascending
 * @param total in the same unit; null where it is not known in advance
 */
export type OnProgress = (stage: string, done: number, total: number | null) => void;

/** A renderer of progress; `close` removes what is left of the bar on the terminal. */
export interface ProgressRenderer {
  readonly onProgress: OnProgress;
  close(): void;
}

/** Work shorter than this shows nothing, in milliseconds. */
const quiet = 2000;
/** Between two plain lines, in milliseconds. */
const lineInterval = 10_000;

/** Where a renderer writes, and the clock it reads (milliseconds). */
export interface ProgressOutput {
  readonly stream?: Pick<WriteStream, "write" | "isTTY"> & NodeJS.WritableStream;
  readonly now?: () => number;
}

/**
 * Shows stages that take longer than two seconds: a bar on a terminal, a plain line every ten seconds elsewhere (a log).
 * Writes to standard error unless told otherwise, so that results on standard output stay clean.
 */
export function progressRenderer(output: ProgressOutput = {}): ProgressRenderer {
  const stream = output.stream ?? process.stderr;
  const now = output.now ?? Date.now;
  let stage: string | null = null;
  let started = 0;
  let lastLine = 0;
  let bar: SingleBar | null = null;

  const endStage = (): void => {
    bar?.stop();
    if (bar === null && stage !== null && lastLine > started)
      stream.write(`${stage}: done in ${((now() - started) / 1000).toFixed(1)} s\n`);
    bar = null;
    stage = null;
  };

  const showBar = (done: number, total: number): void => {
    if (bar === null) {
      bar = new SingleBar(
        {
          stream,
          format: "{stage} {bar} {percentage}% | {eta_formatted} left",
          clearOnComplete: true,
          hideCursor: false,
          // There is nothing to restore, and a signal keeps its usual effect.
          gracefulExit: false,
          barsize: 24,
          etaBuffer: 30,
        },
        Presets.shades_classic,
      );
      bar.start(total, done, { stage });
    } else {
      bar.setTotal(total);
      bar.update(done, { stage });
    }
  };

  return {
    onProgress(next, done, total) {
      if (next !== stage) {
        endStage();
        stage = next;
        started = now();
        lastLine = started;
      }
      const time = now();
      const finished = total !== null && done >= total;
      if (time - started >= quiet) {
        if (stream.isTTY && total !== null) showBar(Math.min(done, total), total);
        else if (lastLine === started || time - lastLine >= lineInterval) {
          lastLine = time;
          stream.write(`${next}: ${amount(done, total)}\n`);
        }
      }
      if (finished) endStage();
    },
    close: endStage,
  };
}

function amount(done: number, total: number | null): string {
  if (total === null) return `${done.toLocaleString("en")} so far`;
  return `${Math.floor((100 * done) / Math.max(1, total))} %`;
}
