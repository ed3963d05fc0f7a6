import { close, closeSync, fstatSync, fsync, fsyncSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { EspalierError } from "@espalier/core";
import { reason } from "./journal-file.js";

/** At most this many lines, or this many milliseconds, are written but not yet known to be on the disk. */
const linesBeforeSync = 10;
const millisecondsBeforeSync = 1000;

/**
 * A file that lines are appended to. A line is with the operating system when {@link append} returns, so a killed
 * process loses none; it is forced onto the disk every ten lines or every second, whichever is first, without
 * waiting for it. A failure of that is thrown by the next call.
 */
export class AppendFile {
  readonly #descriptor: number;
  /** Bytes, as far as lines are whole: there is one writer. */
  #size: number;
  #unsynced = 0;
  #lastSync = performance.now();
  #syncing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failure: EspalierError | undefined;
  #isOpen = true;

  /** @throws EspalierError ESPALIER_JOURNAL_WRITE */
  constructor(readonly path: string) {
    try {
      this.#descriptor = openSync(path, "a");
      this.#size = fstatSync(this.#descriptor).size;
      // The file's name must survive a power failure, too.
      const folder = openSync(dirname(path), "r");
      fsyncSync(folder);
      closeSync(folder);
    } catch (error) {
      throw writeFailure(path, error);
    }
  }

  /**
   * Appends a line, whole or not at all.
   *
   * @throws EspalierError ESPALIER_JOURNAL_WRITE
   */
  append(line: string): void {
    this.#check();
    const bytes = Buffer.from(line, "utf8");
    try {
      let written = 0;
      while (written < bytes.length) written += writeSync(this.#descriptor, bytes, written);
    } catch (error) {
      // A full disk may have taken a part.
      try {
        ftruncateSync(this.#descriptor, this.#size);
      } catch {
        // Then the next opening cuts the torn line.
      }
      throw writeFailure(this.path, error);
    }
    this.#size += bytes.length;
    this.#unsynced++;
    if (this.#unsynced >= linesBeforeSync || performance.now() - this.#lastSync >= millisecondsBeforeSync)
      void this.#sync();
    else this.#syncLater();
  }

  /** Resolves when all that was appended is on the disk. @throws EspalierError ESPALIER_JOURNAL_WRITE */
  async flush(): Promise<void> {
    this.#check();
    while (this.#unsynced > 0 || this.#syncing !== undefined) {
      await (this.#syncing ?? this.#sync());
      this.#check();
    }
  }

  /** Flushes and closes; closing twice is allowed. @throws EspalierError ESPALIER_JOURNAL_WRITE */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    try {
      await this.flush();
    } finally {
      this.#isOpen = false;
      clearTimeout(this.#timer);
      await new Promise<void>((resolve) => close(this.#descriptor, () => resolve()));
    }
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (!this.#isOpen)
      throw new EspalierError("ESPALIER_JOURNAL_CLOSED", `the journal ${this.path} is closed`, {
        file: this.path,
      });
  }

  #syncLater(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#unsynced > 0) void this.#sync();
    }, millisecondsBeforeSync);
    this.#timer.unref();
  }

  // The thread pool does it: the caller's step goes on meanwhile, even if it never returns to the event loop.
  #sync(): Promise<void> {
    if (this.#syncing !== undefined) return this.#syncing;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#unsynced = 0;
    this.#lastSync = performance.now();
    this.#syncing = new Promise<void>((resolve) => {
      fsync(this.#descriptor, (error) => {
        this.#syncing = undefined;
        // Devices and pipes cannot be synced, and need not be.
        if (error !== null && error.code !== "EINVAL" && error.code !== "ENOTSUP")
          this.#failure = writeFailure(this.path, error);
        if (this.#unsynced > 0 && this.#isOpen) this.#syncLater();
        resolve();
      });
    });
    return this.#syncing;
  }
}

/** {@link EspalierError} for a journal that cannot be written, with what to do about it. */
export function writeFailure(path: string, error: unknown): EspalierError {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const hint =
    code === "ENOSPC" || code === "EDQUOT"
      ? "free some space and continue with --resume; what is in the journal is whole"
      : "choose another folder with --out, or give this user the right to write there";
  return new EspalierError("ESPALIER_JOURNAL_WRITE", `cannot write ${path}: ${reason(error)}`, {
    file: path,
    cause: error,
    hint,
  });
}
