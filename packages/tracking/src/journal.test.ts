import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EspalierError, stream } from "@espalier/core";
import { build } from "esbuild";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RunJournal, readEvents, readMetrics } from "./journal.js";
import { readJournal } from "./journal-file.js";
import type { GrowthEvent, StepMetrics } from "./records.js";
import { stepMetricsSchema } from "./records.js";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "espalier-journal-"));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

function metrics(step: number, changes: Partial<StepMetrics> = {}): StepMetrics {
  return {
    step,
    time: 1_700_000_000_000 + step,
    loss: Math.fround(8 / step),
    depth: 3,
    stage: 0,
    uniqueLayers: 3,
    learningRate: 1e-3 / 3,
    gradientNorm: 1.5,
    flops: step * 1.23e18,
    tokens: step * 2048,
    seconds: step * 0.1,
    tokensPerSecond: 20_480,
    ...changes,
  };
}

const growth: GrowthEvent = {
  event: "growth",
  step: 4,
  time: 1_700_000_000_004,
  stage: 1,
  from: { depth: 3, hiddenSize: 64, attentionHeads: 4, intermediateSize: 256 },
  to: { depth: 6, hiddenSize: 64, attentionHeads: 4, intermediateSize: 256 },
  expander: "interpolation",
  layerMap: [0, 0, 1, 1, 2, 2],
  mapHash: "abc",
  seconds: 0.25,
};

async function failureOf(action: () => unknown): Promise<EspalierError> {
  try {
    await action();
  } catch (error) {
    if (error instanceof EspalierError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

test("what is written is read back to the bit", async () => {
  const random = stream(7).fork("journal");
  const losses = [0, -0, 5e-324, Number.MAX_VALUE, 0.1, Math.fround(0.1), 1e21, -1e-7, 123456789.123];
  for (let draw = 0; draw < 200; draw++) losses.push(Math.fround(random.fork(draw).uniform() * 12));
  losses.push(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
  const written = losses.map((loss, index) => metrics(index + 1, { loss, depths: [1, 2, 3] }));
  const journal = await RunJournal.open(folder);
  for (const step of written) expect(journal.step(step)).toBe(true);
  await journal.close();
  const read = await readMetrics(folder);
  expect(read).toStrictEqual(written);
  for (const [index, loss] of losses.entries()) expect(Object.is(read[index]!.loss, loss)).toBe(true);
});

test("losses that are not finite are strings that any JSON reader accepts", async () => {
  const journal = await RunJournal.open(folder);
  journal.step(metrics(1, { loss: Number.NaN, gradientNorm: Number.POSITIVE_INFINITY }));
  await journal.close();
  const line = JSON.parse(readFileSync(join(folder, "metrics.jsonl"), "utf8"));
  expect(line.loss).toBe("NaN");
  expect(line.gradientNorm).toBe("Infinity");
});

test("a resumed run writes only what is new", async () => {
  const first = await RunJournal.open(folder);
  first.event({ event: "start", step: 0, time: 1 });
  for (const step of [1, 2, 3, 4]) first.step(metrics(step));
  first.event(growth);
  first.event({ event: "interrupted", step: 4, time: 5 });
  await first.close();
  const before = readFileSync(join(folder, "metrics.jsonl"), "utf8");

  const second = await RunJournal.open(folder);
  expect(second.lastStep).toBe(4);
  expect(second.event({ event: "start", step: 0, time: 99 })).toBe(false);
  expect(second.event({ event: "resume", step: 2, time: 6 })).toBe(true);
  for (const step of [3, 4, 5, 6]) expect(second.step(metrics(step, { time: 9_000 }))).toBe(step > 4);
  expect(second.event({ ...growth, time: 9_000 })).toBe(false);
  expect(second.event({ event: "interrupted", step: 4, time: 7 })).toBe(true);
  await second.close();

  expect(readFileSync(join(folder, "metrics.jsonl"), "utf8").startsWith(before)).toBe(true);
  expect((await readMetrics(folder)).map((step) => step.step)).toStrictEqual([1, 2, 3, 4, 5, 6]);
  const events = await readEvents(folder);
  expect(events.map((event) => event.event)).toStrictEqual([
    "start",
    "growth",
    "interrupted",
    "resume",
    "interrupted",
  ]);
  expect(events[1]).toStrictEqual(growth);
});

test("steps that a power failure took are filled by the next session", async () => {
  const journal = await RunJournal.open(folder);
  for (const step of [1, 2, 6, 7]) journal.step(metrics(step));
  await journal.close();
  const resumed = await RunJournal.open(folder);
  for (const step of [1, 2, 3, 4, 5, 6, 7, 8]) resumed.step(metrics(step));
  await resumed.close();
  expect((await readMetrics(folder)).map((step) => step.step)).toStrictEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(readFileSync(join(folder, "metrics.jsonl"), "utf8").trim().split("\n")).toHaveLength(8);
});

test("a torn last line is left out by readers and cut by the next session, at whatever byte it tore", async () => {
  const file = join(folder, "metrics.jsonl");
  const journal = await RunJournal.open(folder);
  for (const step of [1, 2, 3]) journal.step(metrics(step));
  await journal.close();
  const whole = readFileSync(file);
  const lastLine = whole.lastIndexOf("\n", whole.length - 2) + 1;
  for (let length = lastLine; length < whole.length; length += 7) {
    writeFileSync(file, whole.subarray(0, length));
    expect((await readMetrics(folder)).map((step) => step.step)).toStrictEqual([1, 2]);
    const resumed = await RunJournal.open(folder);
    expect(resumed.lastStep).toBe(2);
    resumed.step(metrics(3));
    await resumed.close();
    expect(readFileSync(file)).toStrictEqual(whole);
  }
});

test("a complete last line without its line end is kept", async () => {
  const file = join(folder, "metrics.jsonl");
  const journal = await RunJournal.open(folder);
  for (const step of [1, 2, 3]) journal.step(metrics(step));
  await journal.close();
  const whole = readFileSync(file);
  truncateSync(file, whole.length - 1);
  expect(await readMetrics(folder)).toHaveLength(3);
  const resumed = await RunJournal.open(folder);
  expect(resumed.lastStep).toBe(3);
  resumed.step(metrics(4));
  await resumed.close();
  expect((await readMetrics(folder)).map((step) => step.step)).toStrictEqual([1, 2, 3, 4]);
});

test("a tail of zero bytes, as a power failure leaves, is cut", async () => {
  const file = join(folder, "metrics.jsonl");
  const journal = await RunJournal.open(folder);
  journal.step(metrics(1));
  await journal.close();
  appendFileSync(file, Buffer.alloc(4096));
  const resumed = await RunJournal.open(folder);
  resumed.step(metrics(2));
  await resumed.close();
  expect((await readMetrics(folder)).map((step) => step.step)).toStrictEqual([1, 2]);
});

test("a killed process loses no step whose call returned, and its readers see whole lines only", async () => {
  const script = join(folder, "writer.mjs");
  await build({
    stdin: {
      contents: `import { RunJournal } from "./journal.js";
        const journal = await RunJournal.open(process.argv[2]);
        const line = ${JSON.stringify(metrics(1))};
        for (let step = 1; ; step++) {
          journal.step({ ...line, step });
          process.send(step);
          if (step % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
        }`,
      resolveDir: import.meta.dirname,
      loader: "ts",
    },
    bundle: true,
    platform: "node",
    format: "esm",
    conditions: ["espalier-source"],
    outfile: script,
  });
  const run = join(folder, "run");
  const writer = spawn(process.execPath, [script, run], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const gone = once(writer, "exit");
  let acknowledged = 0;
  writer.on("message", (step) => {
    acknowledged = Number(step);
  });
  try {
    while (acknowledged < 2000) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (writer.exitCode !== null) throw new Error("the writer ended by itself");
      if (existsSync(join(run, "metrics.jsonl"))) {
        const steps = (await readMetrics(run)).map((step) => step.step);
        expect(steps).toStrictEqual(steps.map((_, index) => index + 1));
      }
    }
  } finally {
    writer.kill("SIGKILL");
    await gone;
  }
  const journal = await RunJournal.open(run);
  expect(journal.lastStep).toBeGreaterThanOrEqual(acknowledged);
  await journal.close();
});

test("a full disk is a clear error that names the file, and leaves no half line", async () => {
  symlinkSync("/dev/full", join(folder, "metrics.jsonl"));
  const journal = await RunJournal.open(folder);
  const error = await failureOf(() => journal.step(metrics(1)));
  expect(error.code).toBe("ESPALIER_JOURNAL_WRITE");
  expect(error.message).toBe(`cannot write ${join(folder, "metrics.jsonl")}: no space left on the disk`);
  expect(error.hint).toContain("--resume");
  expect(journal.lastStep).toBe(0);
});

test("a place that cannot be written is a clear error", async () => {
  writeFileSync(join(folder, "file"), "");
  const run = join(folder, "file", "run");
  const error = await failureOf(() => RunJournal.open(run));
  expect(error.code).toBe("ESPALIER_JOURNAL_WRITE");
  expect(error.message).toContain(run);
  expect(error.file).toBe(run);
});

test("reading a folder that is no run names the file that is missing", async () => {
  const error = await failureOf(() => readMetrics(folder));
  expect(error.code).toBe("ESPALIER_JOURNAL_READ");
  expect(error.message).toContain(join(folder, "metrics.jsonl"));
  expect(error.message).toContain("does not exist");
});

test("a damaged line in the middle is named with file, line and key", async () => {
  const journal = await RunJournal.open(folder);
  for (const step of [1, 2, 3]) journal.step(metrics(step));
  journal.event({ event: "start", step: 0, time: 1 });
  await journal.close();
  const file = join(folder, "metrics.jsonl");
  const lines = readFileSync(file, "utf8").split("\n");
  writeFileSync(file, [lines[0], lines[1]!.slice(0, 20), lines[2], ""].join("\n"));
  const torn = await failureOf(() => readMetrics(folder));
  expect(torn.code).toBe("ESPALIER_JOURNAL_INVALID");
  expect(torn.message).toContain(`${file}:2: not a line of JSON`);

  writeFileSync(
    file,
    [lines[0], lines[1]!.replace(/"loss":[^,]*/, '"loss":"much"'), lines[2], ""].join("\n"),
  );
  const wrong = await failureOf(() => readMetrics(folder));
  expect(wrong.message).toContain(`${file}:2: loss:`);

  appendFileSync(join(folder, "events.jsonl"), '{"event":"explosion","step":1,"time":1}\n');
  const unknown = await failureOf(() => readEvents(folder));
  expect(unknown.message).toContain(`${join(folder, "events.jsonl")}:2: event:`);
});

test("a step or a time that the journal could not give back is refused", async () => {
  const journal = await RunJournal.open(folder);
  for (const step of [0, -1, 1.5, Number.NaN])
    expect((await failureOf(() => journal.step(metrics(step)))).code).toBe("ESPALIER_JOURNAL_VALUE");
  expect((await failureOf(() => journal.step(metrics(1, { time: 1.5 })))).key).toBe("time");
  await journal.close();
  expect(await readMetrics(folder)).toStrictEqual([]);
  expect((await failureOf(() => journal.step(metrics(1)))).code).toBe("ESPALIER_JOURNAL_CLOSED");
});

test("reading in small parts gives what reading at once gives", async () => {
  const journal = await RunJournal.open(folder);
  for (let step = 1; step <= 60; step++) journal.step(metrics(step));
  await journal.close();
  const file = join(folder, "metrics.jsonl");
  for (const bytes of [1, 100, 1000]) {
    let part = await readJournal(file, stepMetricsSchema, undefined, bytes);
    const steps: number[] = [];
    while (part.entries.length > 0) {
      for (const entry of part.entries) steps.push(entry.step);
      expect(part.positions.at(-1)).toStrictEqual(part.end);
      part = await readJournal(file, stepMetricsSchema, part.end, bytes);
    }
    expect(steps).toStrictEqual(Array.from({ length: 60 }, (_, index) => index + 1));
    expect(part.end.line).toBe(60);
  }
});

test("a finished run stays finished when it is resumed at its end, and ends again after an earlier step", async () => {
  const end = (time: number) =>
    ({
      event: "end",
      step: 5,
      time,
      finalTrainLoss: 4,
      finalEvalLoss: 4,
      flops: 1,
      seconds: 1,
      tokensPerSecond: 1,
    }) as const;
  const session = async (step: number, time: number): Promise<boolean[]> => {
    const journal = await RunJournal.open(folder);
    const written = [journal.event({ event: "resume", step, time }), journal.event(end(time + 1))];
    await journal.close();
    return written;
  };
  const first = await RunJournal.open(folder);
  expect(first.event(end(1))).toBe(true);
  await first.close();
  expect(await session(5, 2)).toEqual([false, false]);
  // As earlier versions left it.
  appendFileSync(join(folder, "events.jsonl"), '{"event":"resume","step":5,"time":4}\n');
  expect(await session(5, 5)).toEqual([false, false]);
  // The last checkpoint is gone: the run goes on from one before.
  expect(await session(3, 7)).toEqual([true, true]);
  expect((await readEvents(folder)).map(({ event, time }) => [event, time])).toEqual([
    ["end", 1],
    ["resume", 4],
    ["resume", 7],
    ["end", 8],
  ]);
});
