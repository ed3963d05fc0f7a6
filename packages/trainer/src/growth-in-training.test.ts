import { openCheckpoint, stepFolder, writeCheckpointFolder } from "@espalier/checkpoints";
import type {
  DepthSampler,
  GrowthSchedule,
  ModelShape,
  Optimizer,
  ParameterUpdate,
  SequenceData,
} from "@espalier/core";
import { gpt2 } from "@espalier/models";
import { uniqueDepth } from "@espalier/plugin-apollo-lvps";
import { interpolationExpander } from "@espalier/plugin-interpolation";
import { scratch } from "@espalier/plugin-scratch";
import { stages } from "@espalier/plugin-stages";
import { readMetrics } from "@espalier/tracking";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadEngine } from "./engine.test-support.js";
import {
  realText,
  runTiny,
  type TinyRun,
  temporaryFolders,
  tinyGpt2,
  tinyStrategies,
} from "./tiny-run.test-support.js";

const folders = temporaryFolders();
const adamW = tinyStrategies({ unit: "steps", amount: 8, steps: 8 }).optimizer;
let text: SequenceData;
beforeAll(async () => {
  await loadEngine();
  text = await realText();
});
afterAll(() => folders.clean());

/** AdamW that also shows what it is given, before it updates. */
function watched(see: (updates: readonly ParameterUpdate[]) => void): Optimizer {
  return {
    learningRate: adamW.learningRate,
    update(updates, learningRate) {
      see(updates);
      adamW.update(updates, learningRate);
    },
  };
}

/** Every tensor of a step's checkpoint. */
async function tensorsOf(folder: string, step: number): Promise<Map<string, Float32Array>> {
  const checkpoint = await openCheckpoint(stepFolder(folder, step));
  const tensors = new Map<string, Float32Array>();
  for (const source of [checkpoint.weights, checkpoint.optimizer!])
    for (const name of source.tensors.keys()) tensors.set(name, await source.readFloats(name));
  await checkpoint.close();
  return tensors;
}

const layerOf = (name: string) => Number(/\.h\.(\d+)\./.exec(name)?.[1] ?? Number.NaN);
const atLayer = (name: string, layer: number) => name.replace(/\.h\.\d+\./, `.h.${layer}.`);

describe("growth in the middle of training", () => {
  const run: TinyRun = { steps: 8, checkpoints: { every: 1, keep: 99 } };

  it("takes moments and step counts along with the weights that they belong to", async () => {
    const seen: { [name: string]: { [slot: string]: Float32Array } }[] = [];
    const optimizer = watched((updates) =>
      seen.push(
        Object.fromEntries(
          updates.map(({ name, state }) => [
            name,
            {
              weight: state.weight.dataSync<"float32">().slice(),
              first_moment: state.firstMoment.dataSync<"float32">().slice(),
              second_moment: state.secondMoment.dataSync<"float32">().slice(),
              step_count: state.stepCount.dataSync<"float32">().slice(),
            },
          ]),
        ),
      ),
    );
    const folder = await folders.make();
    const result = await runTiny(folder, text, {
      ...run,
      strategies: { optimizer, sampler: uniqueDepth(), schedule: stages({ depths: [2, 4], at: [0, 0.5] }) },
    });
    expect(result.growths.map((growth) => growth.layerMap)).toEqual([[0, 0, 1, 1]]);
    const before = await tensorsOf(folder, 4);
    const after = seen[4]!;
    expect(Object.keys(after)).toHaveLength(4 * 12 + 4);
    for (const [name, slots] of Object.entries(after)) {
      const layer = layerOf(name);
      const source = Number.isNaN(layer) ? name : atLayer(name, [0, 0, 1, 1][layer]!);
      expect(slots.weight).toEqual(before.get(source));
      for (const slot of ["first_moment", "second_moment", "step_count"])
        expect(slots[slot], `${slot} of ${name}`).toEqual(before.get(`${slot}.${source}`));
      expect(slots.first_moment!.some((value) => value !== 0)).toBe(true);
    }
  });

  it("starts new layers with empty moments where the expander says `reset`", async () => {
    const folder = await folders.make();
    const expander = interpolationExpander({ mode: "nearest", moments: "reset" });
    const sampler = uniqueDepth();
    await runTiny(folder, text, { ...run, strategies: { expander, sampler } });
    const last = await tensorsOf(folder, 8);
    for (const [name, count] of last) {
      if (!name.startsWith("step_count.")) continue;
      expect([...count], name).toEqual([Number.isNaN(layerOf(name)) ? 8 : layerOf(name) === 0 ? 8 : 4]);
    }
  });

  it("trains every new parameter from its first step on", async () => {
    const folder = await folders.make();
    await runTiny(folder, text, run);
    const [five, six] = [await tensorsOf(folder, 5), await tensorsOf(folder, 6)];
    const weights = [...six.keys()].filter((name) => name.startsWith("transformer."));
    expect(weights.map(layerOf)).toContain(3);
    for (const name of weights) {
      expect(six.get(name), name).not.toEqual(five.get(name));
      expect(six.get(`step_count.${name}`)![0], name).toBe(five.get(`step_count.${name}`)![0]! + 1);
    }
  });
});

describe("what a step does not train stays as it is", () => {
  /** Trains the top layers only, of all four. */
  const topLayers = (count: number): DepthSampler => ({
    init: () => null,
    next: (memory) => [{ executedLayers: 4, update: { topLayers: count } }, memory],
    distribution: () => new Map([[4, 1]]),
  });

  it("weights, moments and counts alike, and costs no backward pass", async () => {
    const folder = await folders.make();
    const strategies = { schedule: scratch(), sampler: topLayers(1) };
    await runTiny(folder, text, {
      steps: 3,
      strategies,
      checkpoints: { every: 1, keep: 9 },
      gradientAccumulation: 1,
    });
    const [one, three] = [await tensorsOf(folder, 1), await tensorsOf(folder, 3)];
    const moved = [...three.keys()].filter((name) => {
      const [before, after] = [one.get(name)!, three.get(name)!];
      return after.some((value, index) => value !== before[index]);
    });
    const trained = (name: string): boolean => layerOf(name) === 3 || name.includes(".ln_f.");
    expect(
      new Set(moved.map((name) => name.replace(/^(first_moment|second_moment|step_count)\./, ""))),
    ).toEqual(
      new Set(
        gpt2
          .layout(4)
          .map((place) => place.name)
          .filter(trained),
      ),
    );
    const load = { batchSize: 4, sequenceLength: 24, executedLayers: 4, countedPositions: 92 };
    const forward = gpt2.cost(tinyGpt2, load).forwardFlops;
    const top = gpt2.cost(tinyGpt2, { ...load, executedLayers: 1 }).forwardFlops;
    expect((await readMetrics(folder))[0]!.flops).toBe(forward + 2 * top);
  });

  it("a layer that was not drawn gets no decay either", async () => {
    const folder = await folders.make();
    const dropsLast = (unique: number, executed: number) =>
      Array.from({ length: Math.min(executed, unique - 1) }, (_, layer) => layer);
    const strategies = { schedule: scratch(), sampler: uniqueDepth(), sharing: dropsLast };
    await runTiny(folder, text, { steps: 3, strategies, checkpoints: { every: 1, keep: 9 } });
    const [one, two] = [await tensorsOf(folder, 1), await tensorsOf(folder, 2)];
    for (const [name, values] of two) {
      if (layerOf(name) === 3) expect(values, name).toEqual(one.get(name));
      else expect(values, name).not.toEqual(one.get(name));
    }
    expect((await readMetrics(folder))[0]!.depth).toBe(3);
  });
});

describe("growth that cannot take place is refused before training", () => {
  const target: ModelShape = { depth: 4, hiddenSize: 16, attentionHeads: 2, intermediateSize: 32 };
  const schedule = (changes: Partial<GrowthSchedule>): GrowthSchedule => ({
    init: () => null,
    initial: () => ({ ...target, depth: 2 }),
    plan: () => [
      { index: 0, shape: { ...target, depth: 2 }, at: 0, firstStep: 0 },
      { index: 1, shape: target, at: 0.5, firstStep: 4 },
    ],
    next: (memory, { progress, current }) => [
      progress.step >= 4 && current.depth < 4 ? target : null,
      memory,
    ],
    ...changes,
  });

  async function refused(changes: TinyRun): Promise<string> {
    const folder = await folders.make();
    const error = await runTiny(folder, text, changes).then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ name: "UsageError", exitCode: 2 });
    expect(await readMetrics(folder)).toEqual([]);
    return (error as Error).message;
  }

  it("because the budget or the data ends before", async () => {
    const late = schedule({
      plan: () => [
        { index: 0, shape: { ...target, depth: 2 }, at: 0, firstStep: 0 },
        { index: 1, shape: target, at: 1, firstStep: 8 },
      ],
    });
    expect(await refused({ strategies: { schedule: late } })).toContain(
      "starts at step 8, but the budget ends at 8 steps",
    );
    const short = { steps: 2, strategies: { schedule: stages({ depths: [1, 2, 4], at: [0, 0.2, 0.3] }) } };
    expect(await refused(short)).toContain("leaves no steps for stage 0");
  });

  it("because stages are empty, the end is not the target, or the answer is no growth", async () => {
    const empty = schedule({
      plan: () => [
        { index: 0, shape: { ...target, depth: 2 }, at: 0, firstStep: 0 },
        { index: 1, shape: { ...target, depth: 3 }, at: 0.5, firstStep: 4 },
        { index: 2, shape: target, at: 0.55, firstStep: 4 },
      ],
    });
    expect(await refused({ strategies: { schedule: empty } })).toContain("leaves stage 1 without steps");
    const never = schedule({ next: (memory) => [null, memory] });
    expect(await refused({ strategies: { schedule: never } })).toContain(
      "ends at 2×16, 2 heads, intermediate 32, but the model of the definition is 4×16",
    );
    const same = schedule({ next: (memory, { current }) => [current, memory] });
    expect(await refused({ strategies: { schedule: same } })).toContain("which is not larger");
  });

  it("because the expander knows no way", async () => {
    const wider = schedule({ initial: () => ({ ...target, depth: 2, hiddenSize: 8 }) });
    expect(await refused({ strategies: { schedule: wider } })).toContain(
      "grows depth only, but hiddenSize changes from 8 to 16",
    );
  });
});

describe("training that starts from a checkpoint", () => {
  let grown: string;
  beforeAll(async () => {
    grown = await folders.make();
    await runTiny(grown, text, { steps: 4 });
  });
  const frozen = { learningRate: { factor: () => 0 }, schedule: scratch(), sampler: uniqueDepth() };

  it("takes weights and moments, or weights alone", async () => {
    const given = await tensorsOf(grown, 4);
    const folder = await folders.make();
    await runTiny(folder, text, { steps: 1, start: { path: grown }, strategies: frozen });
    const taken = await tensorsOf(folder, 1);
    const name = "transformer.h.3.mlp.c_fc.weight";
    expect(taken.get(name)).toEqual(given.get(name));
    expect(taken.get(`step_count.${name}`)![0]).toBe(given.get(`step_count.${name}`)![0]! + 1);
    const alone = await folders.make();
    await runTiny(alone, text, { steps: 1, start: { path: grown, moments: false }, strategies: frozen });
    const without = await tensorsOf(alone, 1);
    expect(without.get(name)).toEqual(given.get(name));
    expect(without.get(`step_count.${name}`)![0]).toBe(1);
  });

  it("of Hugging Face's layout, and grows a shallower one first", async () => {
    const checkpoint = await openCheckpoint(grown);
    const names = gpt2.layout(2).map((place) => place.name);
    const exported = `${await folders.make()}/exported`;
    await writeCheckpointFolder(exported, {
      model: names.map((name) => ({
        name: name.replace(/^transformer\./, ""),
        type: "F32",
        shape: checkpoint.weights.tensors.get(name)!.shape,
        data: () => checkpoint.weights.readFloats(name),
      })),
      optimizer: null,
      state: null,
      config: gpt2.toHuggingFace({ ...tinyGpt2, depth: 2 }),
    });
    await checkpoint.close();
    const folder = await folders.make();
    const result = await runTiny(folder, text, { steps: 1, start: { path: exported }, strategies: frozen });
    expect(result.growths).toMatchObject([{ step: 0, stage: 0, layerMap: [0, 0, 1, 1] }]);
    const name = "transformer.h.3.mlp.c_fc.weight";
    expect((await tensorsOf(folder, 1)).get(name)).toEqual((await tensorsOf(grown, 4)).get(atLayer(name, 1)));
  });

  it("of another shape says which tensor, what was expected and what was found", async () => {
    const start = { path: grown };
    const vocabulary = { ...tinyGpt2, vocabSize: 130 };
    await expect(runTiny(await folders.make(), text, { start, config: vocabulary })).rejects.toMatchObject({
      code: "ESPALIER_CHECKPOINT_SHAPE",
      message: expect.stringMatching(
        /"transformer\.wte\.weight" in .*model\.safetensors has the shape \[128,16\], but \[130,16\] is expected/,
      ),
    });
    const shallow = { start, config: { ...tinyGpt2, depth: 2 }, strategies: frozen };
    await expect(runTiny(await folders.make(), text, shallow)).rejects.toThrow(
      "training would start from 4×16, 2 heads, intermediate 32, but model.depth is 2; a model cannot shrink",
    );
  });
});
