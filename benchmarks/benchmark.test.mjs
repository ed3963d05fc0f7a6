import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { causalLm, maskedLm, maskedLmDefaults } from "@espalier/data";
import { bert, gpt2 } from "@espalier/models";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { root, runProgram } from "../scripts/programs.mjs";
import { makeBatches, preparedBatch } from "./harness/batches.mjs";
import { casesOf, executedLayers, models } from "./harness/cases.mjs";
import { startLineProcess } from "./harness/line-process.mjs";
import { DifferentLossError, measureCase, tolerances } from "./harness/measure-case.mjs";
import { participantsOf } from "./harness/participants.mjs";
import { floorSeconds, flopsOf, stepProducts } from "./harness/products.mjs";
import { fitLine, median } from "./harness/statistics.mjs";
import { findReferenceEnvironment } from "./reference-environment.mjs";
import { allTables, conditions, fillPlaces, markdown, ratiosTable } from "./tables.mjs";

const scratch = mkdtempSync(join(tmpdir(), "espalier-bench-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe("statistics", () => {
  it("takes the middle, or the mean of the two middle ones", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([])).toBeNaN();
  });

  it("finds the line that points lie on", () => {
    const { start, slope } = fitLine([1, 2, 5].map((x) => [x, 3 + 2 * x]));
    expect(start).toBeCloseTo(3, 12);
    expect(slope).toBeCloseTo(2, 12);
  });
});

describe("cases", () => {
  it.each(Object.entries(models))("the products of %s are the FLOPs of the cost model", (_, model) => {
    const family = model.family === "bert" ? bert : gpt2;
    const config = {
      ...family.defaults,
      family: model.family,
      depth: model.depth,
      hiddenSize: model.hidden,
      attentionHeads: model.heads,
      intermediateSize: 4 * model.hidden,
      vocabSize: model.vocabulary,
      maxPositions: model.sequence,
      dropout: 0,
      initializerRange: 0.02,
    };
    const tokenizer = {
      vocabSize: model.vocabulary,
      maskToken: 4,
      padToken: 0,
      endOfText: null,
      specialTokens: [],
    };
    const objective = model.family === "bert" ? maskedLm(maskedLmDefaults, tokenizer) : causalLm();
    const cost = family.cost(config, {
      batchSize: model.batch,
      sequenceLength: model.sequence,
      executedLayers: executedLayers(model),
      countedPositions: objective.countedPositions(model.batch, model.sequence),
    });
    expect(flopsOf(stepProducts(model, "fp32"))).toBe(cost.trainingFlops);
  });

  it("adds up the floor from the products' times", () => {
    expect(floorSeconds([{ count: 2 }, { count: 3 }], [0.5, 0.1])).toBeCloseTo(1.3, 12);
  });

  it("are chosen by parts of their keys", () => {
    const keys = casesOf({
      precisions: ["fp32", "bf16"],
      dropouts: [0],
      only: ["bert-2x128", "gpt2-12x64/bf16"],
    });
    expect(keys.map(({ key }) => key)).toEqual([
      "gpt2-12x64/bf16/dropout-0",
      "bert-2x128/fp32/dropout-0",
      "bert-2x128/bf16/dropout-0",
    ]);
  });
});

describe("batches", () => {
  const size = { vocabulary: 50, batch: 3, sequence: 20, count: 2, seed: 1 };

  it("count 15 % of BERT's positions, in every row", () => {
    const [first, second] = makeBatches({ ...size, family: "bert" });
    expect(first).not.toEqual(second);
    const { countedPositions, labels, inputIds } = preparedBatch(first, false);
    expect(countedPositions.length).toBe(3 * 3);
    for (const [index, position] of countedPositions.entries())
      expect(labels[index]).toBe(first.labels[Math.floor(position / 20)][position % 20]);
    expect(Array.from(inputIds)).toEqual(first.input_ids.flat());
  });

  it("predict the next token where the model is causal", () => {
    const [first] = makeBatches({ ...size, family: "gpt2" });
    const { countedPositions, labels, inputIds } = preparedBatch(first, true);
    expect(countedPositions.length).toBe(3 * 19);
    for (const [index, position] of countedPositions.entries())
      expect(labels[index]).toBe(inputIds[position + 1]);
  });
});

describe("processes", () => {
  it("a peer says what is wrong with a request, and lives on", async () => {
    const peer = startLineProcess("python3", [
      join(root, "benchmarks/peers/peer.py"),
      "--kind",
      "handwritten",
      "--threads",
      "1",
    ]);
    try {
      await expect(peer.ask({ do: "loss" })).rejects.toThrow("loss before open");
      await expect(peer.ask({ do: "train", steps: 1 })).rejects.toThrow("train before open");
      await expect(peer.ask({ do: "open", folder: join(scratch, "nothing") })).rejects.toThrow(/Error: /);
    } finally {
      await peer.close();
    }
  });

  it("that end are told of with what they said last", async () => {
    const dying = startLineProcess(process.execPath, [
      "-e",
      "process.stdin.once('data', () => { console.error('out of luck'); process.exit(3); })",
    ]);
    await expect(dying.ask({ do: "loss" })).rejects.toThrow("exit code 3): out of luck");
    await expect(dying.ask({ do: "loss" })).rejects.toThrow("exit code 3");
    const absent = startLineProcess(join(scratch, "no-such-program"), []);
    await expect(absent.ask({ do: "loss" })).rejects.toThrow("ENOENT");
  });
});

describe("a case", () => {
  const model = {
    family: "bert",
    depth: 1,
    hidden: 16,
    heads: 2,
    vocabulary: 64,
    batch: 2,
    sequence: 16,
    seed: 5,
  };
  const measured = { key: "tiny/fp32/dropout-0", name: "tiny", model, precision: "fp32", dropout: 0 };
  const reference = findReferenceEnvironment(root);
  const python = "missing" in reference ? null : reference.python;
  const folder = join(scratch, "tiny");
  const other = join(scratch, "other");
  const choice = { root, python: null, chosen: [], engines: ["wasm"], threads: 1 };
  const run = (participants) =>
    measureCase({ measured, participants, folder, windows: 1, windowSeconds: 0.01, say: () => undefined });

  beforeAll(async () => {
    const script = join(root, "benchmarks/prepare-model.mjs");
    for (const [place, seed] of [
      [folder, 5],
      [other, 6],
    ]) {
      const { code, output } = await runProgram(process.execPath, [
        script,
        place,
        JSON.stringify({ ...model, seed }),
      ]);
      expect(code, output).toBe(0);
    }
    expect(existsSync(join(folder, "batches.json"))).toBe(true);
  });

  it("is measured without peers, and shown", async () => {
    const result = await run(participantsOf(choice, measured));
    const [ours] = result.results;
    expect(Math.abs(ours.loss - Math.log(64))).toBeLessThan(0.3);
    expect(ours.tokensPerSecond).toBeGreaterThan(0);
    expect(ours.peakBytes).toBeGreaterThan(1e7);
    expect(result.floor.flops).toBe(flopsOf(stepProducts(model, "fp32")));
    const machine = {
      processor: "a processor",
      cores: 2,
      memoryBytes: 2 ** 34,
      threads: 1,
      node: "20",
      platform: "linux",
    };
    const cases = [{ ...result, machine, date: "2026-01-01T00:00:00Z" }];
    expect(allTables(cases)).toContain("tiny/fp32/dropout-0");
    expect(ratiosTable(cases)).toContain("tiny/fp32/dropout-0");
    expect(conditions(cases)).toContain("a processor, 2 cores, 16 GiB, 1 threads");
  });

  it("is not timed where somebody computes another loss", async () => {
    const [ours] = participantsOf(choice, measured);
    const astray = {
      ...ours,
      key: "astray",
      name: "astray",
      isOurs: false,
      // The same program with the weights of another seed.
      start() {
        const process = ours.start();
        const ask = (request) => process.ask(request.do === "open" ? { ...request, folder: other } : request);
        return { ...process, ask };
      },
    };
    await expect(run([ours, astray])).rejects.toThrow(DifferentLossError);
  });

  it("goes on without a peer that is not there", async () => {
    const [ours] = participantsOf(choice, measured);
    const absent = {
      key: "absent",
      name: "absent",
      isOurs: false,
      start: () => startLineProcess(join(scratch, "no-such-program"), []),
    };
    const result = await run([ours, absent]);
    expect(result.results.map(({ key }) => key)).toEqual(["wasm"]);
    expect(result.absent).toEqual([
      { key: "absent", name: "absent", why: expect.stringContaining("ENOENT") },
    ]);
  });

  // Needs `npm run bench:setup`, which `npm test` does not ask for; the benchmark itself makes the same comparison.
  it.skipIf(python === null)(
    "has the same losses by Hugging Face and by hand",
    { timeout: 240_000 },
    async () => {
      const result = await run(participantsOf({ ...choice, python, chosen: ["hf", "manual"] }, measured));
      expect(result.absent).toEqual([]);
      for (const each of result.results) {
        expect(each.lossDifference).toBeLessThan(tolerances.fp32.loss);
        expect(each.trajectoryDifference).toBeLessThan(tolerances.fp32.trajectory);
      }
    },
  );
});

describe("tables", () => {
  it("are padded Markdown", () => {
    expect(markdown(["who", "tokens/s"], [["ours", "1,000"]], ["left"])).toBe(
      ["| who  | tokens/s |", "| ---- | -------: |", "| ours |    1,000 |"].join("\n"),
    );
  });

  it("go to their marked places", () => {
    const text = "a\n<!-- measured: one -->\nold\n<!-- end -->\nb\n";
    expect(fillPlaces(text, { one: "new" })).toBe("a\n<!-- measured: one -->\nnew\n<!-- end -->\nb\n");
    expect(() => fillPlaces(text, { two: "new" })).toThrow('no place for "two"');
  });
});
