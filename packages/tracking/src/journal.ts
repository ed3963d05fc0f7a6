import { closeSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { EspalierError } from "@espalier/core";
import type { z } from "zod";
import { AppendFile, writeFailure } from "./append-file.js";
import { type JournalPart, readJournal, startOfJournal } from "./journal-file.js";
import { toJsonLine } from "./json-line.js";
import { type RunEvent, runEventSchema, type StepMetrics, stepMetricsSchema } from "./records.js";

/** Names of a run's journal files in its folder. */
export const journalFiles = { metrics: "metrics.jsonl", events: "events.jsonl" } as const;

/** Belong to a session, not to the training: a later session at the same step has its own. */
const eventsOfASession: ReadonlySet<RunEvent["event"]> = new Set(["resume", "interrupted", "diverged"]);

/**
 * A run's truth on disk: `metrics.jsonl` (one line for each optimizer step) and `events.jsonl`, appended to and never
 * rewritten. A line is safe from a killed process at once, and from a power failure after ten lines or one second.
 *
 * A resumed run opens the same folder: the lines that are there stay, and steps and events that are there already are
 * not written again.
 *
 * @example
 * const journal = await RunJournal.open("runs/apollo-s42");
 * journal.event({ event: "start", step: 0, time: Date.now() });
 * journal.step({ step: 1, time: Date.now(), loss: 8.3, … });
 * await journal.close();
 */
export class RunJournal {
  readonly #metrics: AppendFile;
  readonly #events: AppendFile;
  #lastStep = 0;
  readonly #missingSteps = new Set<number>();
  readonly #knownEvents = new Set<string>();
  /** The step of the `end` that still holds. */
  #endedAt: number | null = null;

  private constructor(
    readonly folder: string,
    metricsFile: AppendFile,
    eventsFile: AppendFile,
    steps: readonly StepMetrics[],
    events: readonly RunEvent[],
  ) {
    this.#metrics = metricsFile;
    this.#events = eventsFile;
    for (const { step } of steps) this.#remember(step);
    for (const event of events) this.#rememberEvent(event);
  }

  /**
   * Opens or creates the journal in `folder` (created if missing), and cuts a torn last line that a killed process
   * left.
   *
   * @throws EspalierError ESPALIER_JOURNAL_WRITE, ESPALIER_JOURNAL_READ, ESPALIER_JOURNAL_INVALID
   */
  static async open(folder: string): Promise<RunJournal> {
    try {
      await mkdir(folder, { recursive: true });
    } catch (error) {
      throw writeFailure(folder, error);
    }
    const metricsPath = join(folder, journalFiles.metrics);
    const eventsPath = join(folder, journalFiles.events);
    const steps = await repair(metricsPath, stepMetricsSchema);
    const events = await repair(eventsPath, runEventSchema);
    return new RunJournal(folder, new AppendFile(metricsPath), new AppendFile(eventsPath), steps, events);
  }

  /** The highest step in the journal; 0 if there is none. */
  get lastStep(): number {
    return this.#lastStep;
  }

  /**
   * Appends a step, unless the journal has it already.
   *
   * @returns whether it was written
   * @throws EspalierError ESPALIER_JOURNAL_WRITE (disk full, no permission), ESPALIER_JOURNAL_VALUE
   */
  step(metrics: StepMetrics): boolean {
    if (!Number.isSafeInteger(metrics.step) || metrics.step < 1)
      throw valueError(this.#metrics.path, "step", "a whole number from 1", metrics.step);
    checkTime(this.#metrics.path, metrics.time);
    if (metrics.step <= this.#lastStep && !this.#missingSteps.has(metrics.step)) return false;
    this.#metrics.append(toJsonLine(metrics));
    this.#remember(metrics.step);
    return true;
  }

  /**
   * Appends an event, unless the journal has one of the same kind at the same step; `resume`, `interrupted` and
   * `diverged` are written each time that they happen. At the step of its `end` a run has nothing left to train, and no
   * `resume` is written; one at an earlier step (the last checkpoints are gone) makes way for another `end`.
   *
   * @returns whether it was written
   * @throws EspalierError ESPALIER_JOURNAL_WRITE (disk full, no permission), ESPALIER_JOURNAL_VALUE
   */
  event(event: RunEvent): boolean {
    if (!Number.isSafeInteger(event.step) || event.step < 0)
      throw valueError(this.#events.path, "step", "a whole number from 0", event.step);
    checkTime(this.#events.path, event.time);
    const key = keyOf(event);
    if (this.#knownEvents.has(key) && !eventsOfASession.has(event.event)) return false;
    if (event.event === "resume" && this.#endedAt === event.step) return false;
    this.#events.append(toJsonLine(event));
    this.#rememberEvent(event);
    return true;
  }

  /** Resolves when everything is on the disk. @throws EspalierError ESPALIER_JOURNAL_WRITE */
  async flush(): Promise<void> {
    await Promise.all([this.#metrics.flush(), this.#events.flush()]);
  }

  /** Flushes and closes; closing twice is allowed. @throws EspalierError ESPALIER_JOURNAL_WRITE */
  async close(): Promise<void> {
    await Promise.all([this.#metrics.close(), this.#events.close()]);
  }

  #rememberEvent(event: RunEvent): void {
    this.#knownEvents.add(keyOf(event));
    if (event.event === "end") this.#endedAt = event.step;
    if (event.event !== "resume" || this.#endedAt === null || this.#endedAt === event.step) return;
    this.#knownEvents.delete(`end ${this.#endedAt}`);
    this.#endedAt = null;
  }

  #remember(step: number): void {
    for (let missing = this.#lastStep + 1; missing < step; missing++) this.#missingSteps.add(missing);
    this.#missingSteps.delete(step);
    this.#lastStep = Math.max(this.#lastStep, step);
  }
}

/**
 * The steps in a run folder, ascending, each once. Works while another process writes: a line that is not complete
 * yet is left out.
 *
 * @throws EspalierError ESPALIER_JOURNAL_READ, ESPALIER_JOURNAL_INVALID (with file and line)
 */
export async function readMetrics(folder: string): Promise<StepMetrics[]> {
  const steps = await readWhole(join(folder, journalFiles.metrics), stepMetricsSchema);
  const byStep = new Map<number, StepMetrics>();
  for (const metrics of steps) if (!byStep.has(metrics.step)) byStep.set(metrics.step, metrics);
  return [...byStep.values()].sort((a, b) => a.step - b.step);
}

/**
 * The events in a run folder, in the order in which they were written. Works while another process writes.
 *
 * @throws EspalierError ESPALIER_JOURNAL_READ, ESPALIER_JOURNAL_INVALID (with file and line)
 */
export async function readEvents(folder: string): Promise<RunEvent[]> {
  return readWhole(join(folder, journalFiles.events), runEventSchema);
}

const bytesAtOnce = 4 * 1024 * 1024;

async function readWhole<Entry>(file: string, schema: z.ZodType<Entry>): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let position = startOfJournal; ; ) {
    const part = await readJournal(file, schema, position, bytesAtOnce);
    for (const entry of part.entries) entries.push(entry);
    if (part.end.byte === position.byte) return entries;
    position = part.end;
  }
}

/** Reads what is there, cuts a torn last line, and ends a complete last line that lacks its line end. */
async function repair<Entry>(file: string, schema: z.ZodType<Entry>): Promise<Entry[]> {
  const exists = await stat(file).then(
    () => true,
    () => false,
  );
  if (!exists) return [];
  const entries: Entry[] = [];
  let part: JournalPart<Entry> = { entries: [], positions: [], end: startOfJournal, torn: 0 };
  for (;;) {
    const next = await readJournal(file, schema, part.end, bytesAtOnce);
    for (const entry of next.entries) entries.push(entry);
    const isEnd = next.end.byte === part.end.byte;
    part = next;
    if (isEnd) break;
  }
  try {
    mend(file, part.end.byte, part.torn);
  } catch (error) {
    throw writeFailure(file, error);
  }
  return entries;
}

function mend(file: string, end: number, torn: number): void {
  const descriptor = openSync(file, "a+");
  try {
    if (torn > 0) ftruncateSync(descriptor, end);
    if (end > 0 && lastByte(descriptor, end) !== 0x0a) writeSync(descriptor, "\n");
    else if (torn === 0) return;
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function lastByte(descriptor: number, end: number): number | undefined {
  const byte = Buffer.alloc(1);
  readSync(descriptor, byte, 0, 1, end - 1);
  return byte[0];
}

function keyOf(event: RunEvent): string {
  return `${event.event} ${event.step}`;
}

function checkTime(file: string, time: number): void {
  if (!Number.isSafeInteger(time) || time < 0)
    throw valueError(file, "time", "whole milliseconds since the epoch", time);
}

function valueError(file: string, key: string, expected: string, given: number): EspalierError {
  return new EspalierError("ESPALIER_JOURNAL_VALUE", `${file}: ${key} must be ${expected}, not ${given}`, {
    file,
    key,
  });
}
