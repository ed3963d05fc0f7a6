import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UsageError } from "@espalier/core";
import { RunJournal } from "@espalier/tracking";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareRuns } from "./comparison.js";
import { comparisonTable, formatFlops } from "./comparison-table.js";
import { firstCrossing, lossAtFlops } from "./crossing.js";
import { whyIncomparable } from "./loss-measure.js";
import { plotLossAgainstFlops } from "./loss-plot.js";
import { loadRun } from "./run-summary.js";

type Point = readonly [step: number, flops: number, seconds: number, loss: number];

const shape = { hiddenSize: 16, attentionHeads: 2, intermediateSize: 32 };
let home: string;

async function writeRun(
  name: string,
  points: readonly Point[],
  growthStep?: number,
  ended = true,
  sourceFlops?: number | null,
  lock: object = {},
): Promise<string> {
  const folder = join(home, name);
  await mkdir(folder);
  await writeFile(join(folder, "lock.json"), JSON.stringify({ name, seed: 7, ...lock }));
  const journal = await RunJournal.open(folder);
  let time = 1_700_000_000_000;
  if (sourceFlops !== undefined) journal.event({ event: "start", step: 0, time: time++, sourceFlops });
  for (const [step, flops, seconds, loss] of points) {
    if (growthStep !== undefined && step > growthStep) {
      journal.event({
        event: "growth",
        step: growthStep,
        time: time++,
        stage: 1,
        from: { depth: 3, ...shape },
        to: { depth: 6, ...shape },
        expander: "interpolation",
        layerMap: [0, 0, 1, 1, 2, 2],
        mapHash: "0",
        seconds: 0.01,
      });
      growthStep = undefined;
    }
    journal.event({
      event: "evaluation",
      step,
      time: time++,
      loss,
      depth: 6,
      flops,
      tokens: step * 10,
      seconds,
    });
  }
  const [step, flops, seconds, loss] = points.at(-1)!;
  if (ended)
    journal.event({
      event: "end",
      step,
      time,
      finalTrainLoss: loss,
      finalEvalLoss: loss,
      flops,
      seconds,
      tokensPerSecond: 10,
    });
  await journal.close();
  return folder;
}

let baseline: string;
let grown: string;
let behind: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "espalier-reports-"));
  baseline = await writeRun("scratch", [
    [10, 100, 10, 6],
    [20, 200, 20, 5],
    [30, 300, 30, 4],
  ]);
  grown = await writeRun(
    "apollo",
    [
      [10, 50, 6, 6],
      [20, 150, 16, 4.5],
      [30, 250, 26, 3.5],
    ],
    15,
  );
  behind = await writeRun("behind", [[10, 100, 10, 6.5]], undefined, false);
});

afterAll(() => rm(home, { recursive: true, force: true }));

describe("first crossing", () => {
  const at = (flops: number, loss: number) => ({ step: flops, flops, seconds: flops / 10, loss });

  it("is linear between evaluations", () => {
    expect(firstCrossing([at(100, 6), at(200, 4)], 5)).toEqual({ flops: 150, seconds: 15 });
  });

  it("takes the first of several", () => {
    expect(firstCrossing([at(100, 6), at(200, 4), at(300, 7), at(400, 3)], 5)?.flops).toBe(150);
  });

  it("is the first evaluation where that is below already, and null where the loss is not reached", () => {
    expect(firstCrossing([at(100, 4), at(200, 3)], 5)?.flops).toBe(100);
    expect(firstCrossing([at(100, 6), at(200, 5.5)], 5)).toBeNull();
  });

  it("answers for a loss at given FLOPs only within what was measured", () => {
    expect(lossAtFlops([at(100, 6), at(200, 4)], 125)).toBe(5.5);
    expect(lossAtFlops([at(100, 6), at(200, 4)], 201)).toBeNull();
  });
});

describe("comparison", () => {
  it("computes savings at the baseline's final loss", async () => {
    const comparison = compareRuns([await loadRun(baseline), await loadRun(grown), await loadRun(behind)]);
    expect(comparison.baseline).toBe("scratch");
    const [first, second, third] = comparison.runs;
    expect(first).toMatchObject({
      finalEvalLoss: 4,
      flops: 300,
      flopsToBaseline: 300,
      flopsSaving: 0,
      secondsSaving: 0,
    });
    // 4.5 at 150 FLOPs and 3.5 at 250 FLOPs: the baseline's 4 lies half-way, at 200 FLOPs and 21 s.
    expect(second!.flopsToBaseline).toBe(200);
    expect(second!.flopsSaving).toBeCloseTo(1 / 3, 12);
    expect(second!.secondsSaving).toBeCloseTo(1 - 21 / 30, 12);
    expect(second!.atEqualFlops).toEqual({ flops: 250, loss: 3.5, baselineLoss: 4.5 });
    expect(third).toMatchObject({
      flopsToBaseline: null,
      flopsSaving: null,
      secondsSaving: null,
      complete: false,
    });
  });

  it("counts the FLOPs of a source apart, and says the saving with them, too", async () => {
    const points: Point[] = [
      [10, 50, 6, 6],
      [20, 150, 16, 4],
    ];
    const sourced = await writeRun("sourced", points, undefined, true, 60);
    const unknown = await writeRun("unknown", points, undefined, true, null);
    const comparison = compareRuns(await Promise.all([baseline, sourced, unknown].map(loadRun)));
    const [first, second, third] = comparison.runs;
    expect(first).toMatchObject({ sourceFlops: 0, flopsSavingWithSource: 0 });
    expect(second).toMatchObject({ sourceFlops: 60, flops: 150, flopsToBaseline: 150, flopsSaving: 0.5 });
    expect(second!.flopsSavingWithSource).toBeCloseTo(1 - 210 / 300, 12);
    expect(third).toMatchObject({ sourceFlops: null, flopsSaving: 0.5, flopsSavingWithSource: null });
    const table = comparisonTable(comparison);
    expect(table).toContain("30.0 %");
    expect(table).toContain("unknown");
    expect(comparisonTable(compareRuns([await loadRun(baseline)]))).not.toContain("source");
  });

  it("saves nothing where another objective or vocabulary is measured, and says both", async () => {
    const lock = (use: string, vocabSize: number) => ({
      definition: { objective: { use }, data: { corpus: { use: "sotu" }, validationShare: 0.05 } },
      data: { fingerprint: `${vocabSize}`, tokenizerHash: `hash of ${vocabSize}`, vocabSize },
    });
    const points: Point[] = [
      [10, 50, 6, 6],
      [20, 150, 16, 2],
    ];
    const causal = await writeRun("causal", points, undefined, true, 0, lock("causal-lm", 337));
    const masked = await writeRun("masked", points, undefined, true, 0, lock("masked-lm", 144));
    const comparison = compareRuns(await Promise.all([causal, masked, baseline].map(loadRun)));
    const [first, second, third] = comparison.runs;
    expect(first).toMatchObject({ flopsSaving: 0, notComparable: null });
    expect(second).toMatchObject({
      finalEvalLoss: 2,
      flops: 150,
      flopsToBaseline: null,
      flopsSaving: null,
      flopsSavingWithSource: null,
      secondsSaving: null,
      atEqualFlops: null,
      notComparable: "objective masked-lm against causal-lm, vocabulary 144 against 337",
    });
    // Its lock says nothing of that.
    expect(third).toMatchObject({ notComparable: null, atEqualFlops: { flops: 150 } });
    const table = comparisonTable(comparison);
    expect(table).toMatch(/^masked .* not comparable +– +–$/m);
    expect(table).toContain(
      "The losses of masked cannot be compared with those of causal: objective masked-lm against causal-lm, vocabulary 144 against 337.",
    );
    expect(table).not.toMatch(/At equal FLOPs.*masked/);
  });

  it("takes another baseline", async () => {
    const comparison = compareRuns([await loadRun(baseline), await loadRun(grown)], 1);
    expect(comparison.baseline).toBe("apollo");
    expect(comparison.runs[0]!.flopsToBaseline).toBeNull();
  });

  it("marks one baseline among runs of one name and seed", async () => {
    const run = await loadRun(baseline);
    const table = comparisonTable(compareRuns([run, run], 1));
    expect(table.match(/\(baseline\)/g)).toHaveLength(1);
    expect(table).toContain("At equal FLOPs");
  });

  it("prints a table that says what was not reached and what is unfinished", async () => {
    const table = comparisonTable(
      compareRuns([await loadRun(baseline), await loadRun(grown), await loadRun(behind)]),
    );
    expect(table).toContain("scratch (baseline)");
    expect(table).toContain("33.3 %");
    expect(table).toContain("not reached");
    expect(table).toContain("Not finished yet: behind");
  });

  it("writes FLOPs with SI prefixes", () => {
    expect([999, 1000, 3.22e13, 1.05e20].map(formatFlops)).toEqual(["999", "1.00 k", "32.2 T", "105 E"]);
  });
});

describe("losses", () => {
  const measure = {
    objective: { use: "masked-lm", probability: 0.15 },
    tokenizerHash: "0123456789abcdef",
    vocabSize: 512,
    corpus: { use: "text", files: "a.txt" },
    validationShare: 0.05,
    sequenceLength: 128,
    fingerprint: "f0f0f0f0f0f0f0f0",
  };
  const other = { tokenizerHash: "fedcba9876543210", fingerprint: "1" };
  it.each([
    ["the same", {}, null],
    ["another sequence length", { sequenceLength: 64, fingerprint: "1" }, null],
    ["the same sequences by another name", { corpus: { use: "text", files: "b.txt" } }, null],
    ["an older lock", { fingerprint: undefined, tokenizerHash: undefined, objective: undefined }, null],
    [
      "other options of the objective",
      { objective: { use: "masked-lm", probability: 0.3 } },
      'objective masked-lm {"probability":0.15} against masked-lm {"probability":0.3}',
    ],
    [
      "another tokenizer of as many tokens",
      other,
      "vocabulary 512 (0123456789ab) against 512 (fedcba987654)",
    ],
    ["fewer tokens", { ...other, vocabSize: 256 }, "vocabulary 512 against 256"],
    ["another corpus", { corpus: { use: "sotu" }, fingerprint: "1" }, "corpus text against sotu"],
    [
      "other files",
      { corpus: { use: "text", files: "b.txt" }, fingerprint: "1" },
      'corpus text {"files":"a.txt"} against text {"files":"b.txt"}',
    ],
    [
      "another part of it held out",
      { validationShare: 0.1, fingerprint: "1" },
      "held-out share 0.05 against 0.1",
    ],
    ["a file that has changed", { fingerprint: "1" }, "text f0f0f0f0f0f0 against 1"],
  ])("are compared by what they measure: %s", (_, changes, why) => {
    expect(whyIncomparable(measure, { ...measure, ...changes })).toBe(why);
  });
});

describe("run folders", () => {
  it("names a folder that is not there, or is no run", async () => {
    await expect(loadRun(join(home, "nowhere"))).rejects.toThrow(UsageError);
    await mkdir(join(home, "empty"));
    await expect(loadRun(join(home, "empty"))).rejects.toThrow("lock.json");
  });
});

describe("plot", () => {
  it("is an SVG with a curve per run, both axes named, and the growth marked", async () => {
    const svg = await plotLossAgainstFlops(
      [await loadRun(baseline), await loadRun(grown)],
      "loss against FLOPs",
    );
    expect(svg).toMatch(/^<svg /);
    for (const colour of ["#0072B2", "#D55E00"])
      expect(svg, `curve in ${colour}`).toMatch(
        new RegExp(`<path [^>]*d="M[^"]+L[^"]+"[^>]*stroke="${colour}"`, "i"),
      );
    expect(svg).toContain("training FLOPs");
    expect(svg).toContain("evaluation loss");
    expect(svg).toContain("→ 6");
    expect(svg).toContain(">apollo<");
  });
});
