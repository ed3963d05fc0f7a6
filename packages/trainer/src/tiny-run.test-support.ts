import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type ModelConfig,
  type RandomStream,
  type SequenceData,
  stream,
  type TrainingBudget,
} from "@espalier/core";
import { causalLm, maskedLm, maskedLmDefaults, sotuCorpus } from "@espalier/data";
import { bert, gpt2 } from "@espalier/models";
import { lvpsDefaults, lvpsLaw, samplerOf } from "@espalier/plugin-apollo-lvps";
import { interpolatedLayers, interpolationExpander } from "@espalier/plugin-interpolation";
import { stages } from "@espalier/plugin-stages";
import { RunJournal } from "@espalier/tracking";
import { adamWOptimizer } from "./adamw-optimizer.js";
import { cosineDecay, learningRateSchedule } from "./learning-rate.js";
import { train } from "./train.js";
import type { TrainingResult, TrainingSetup, TrainingStrategies } from "./training-setup.js";

/** A GPT-2 that trains in milliseconds a step, with dropout, so that its masks are tested too. */
export const tinyGpt2: ModelConfig = {
  family: "gpt2",
  depth: 4,
  hiddenSize: 16,
  attentionHeads: 2,
  intermediateSize: 32,
  vocabSize: 128,
  maxPositions: 24,
  dropout: 0.1,
  layerNormEpsilon: 1e-5,
  initializerRange: 0.02,
  tokenTypes: 0,
};

/** The same size of BERT. */
export const tinyBert: ModelConfig = { ...tinyGpt2, family: "bert", tokenTypes: 2 };

/** Real text, one ASCII character a token: the first addresses of the embedded corpus. */
export async function realText(characters = 60_000): Promise<SequenceData> {
  let text = "";
  for await (const document of sotuCorpus({}).documents()) {
    text += document;
    if (text.length >= characters) break;
  }
  const tokens = Int32Array.from(text.slice(0, characters), (character) => character.charCodeAt(0) & 0x7f);
  return sequencesOf(tokens, 24);
}

/** Packed sequences in memory; the last tenth is held out. */
export function sequencesOf(tokens: Int32Array, sequenceLength: number): SequenceData {
  const sequences = Math.floor(tokens.length / sequenceLength);
  const held = Math.floor(sequences / 10);
  const trained = sequences - held;
  const orders = new Map<string, Uint32Array>();
  const orderOf = (stream: RandomStream): Uint32Array => {
    const key = `${stream.uint32(0)} ${stream.uint32(1)}`;
    const order = orders.get(key) ?? stream.permutation(trained);
    orders.set(key, order);
    return order;
  };
  const batch = (batchSize: number, sequenceAt: (row: number) => number): Int32Array => {
    const result = new Int32Array(batchSize * sequenceLength);
    for (let row = 0; row < batchSize; row++) {
      const start = sequenceAt(row) * sequenceLength;
      result.set(tokens.subarray(start, start + sequenceLength), row * sequenceLength);
    }
    return result;
  };
  return {
    sequenceLength,
    fingerprint: "text in memory",
    count: (split) => (split === "train" ? trained : held),
    trainingBatch: (index, batchSize, order) =>
      batch(batchSize, (row) => {
        const position = index * batchSize + row;
        const epoch = Math.floor(position / trained);
        return orderOf(order.fork(epoch))[position - epoch * trained]!;
      }),
    validationBatch: (first, batchSize) => batch(batchSize, (row) => trained + first + row),
  };
}

/** What a test changes of the tiny run. */
export interface TinyRun extends Partial<Omit<TrainingSetup, "strategies" | "budget">> {
  readonly steps?: number;
  readonly budget?: TrainingBudget;
  readonly strategies?: Partial<TrainingStrategies>;
}

/** Apollo in small: 1 → 2 → 4 layers, LVPS, interpolation, eight optimizer steps of two micro-steps. */
export function tinyStrategies(budget: TrainingBudget, causal = true): TrainingStrategies {
  const tokenizer = { vocabSize: 128, maskToken: 1, padToken: null, endOfText: null, specialTokens: [0, 1] };
  return {
    schedule: stages({ depths: [1, 2, 4], at: [0, 0.25, 0.5] }),
    sampler: samplerOf(lvpsLaw(lvpsDefaults)),
    expander: interpolationExpander({ mode: "nearest", moments: "carry" }),
    sharing: interpolatedLayers,
    learningRate: learningRateSchedule({ warmupRatio: 0.1 }, budget, cosineDecay),
    optimizer: adamWOptimizer({
      learningRate: 0.01,
      weightDecay: 0.01,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
    }),
    objective: causal ? causalLm() : maskedLm(maskedLmDefaults, tokenizer),
  };
}

/** The setup of a tiny run in a folder. */
export async function tinySetup(
  folder: string,
  data: SequenceData,
  changes: TinyRun = {},
): Promise<TrainingSetup & { readonly journal: RunJournal }> {
  const { steps = 8, strategies, budget: given, ...rest } = changes;
  const budget = given ?? { unit: "steps", amount: steps, steps };
  const family = rest.family ?? gpt2;
  const seed = rest.seed ?? 42;
  return {
    family,
    config: family === bert ? tinyBert : tinyGpt2,
    strategies: { ...tinyStrategies(budget, family.causal), ...strategies },
    data,
    seed,
    random: stream(seed),
    budget,
    batchSize: 4,
    gradientAccumulation: 2,
    gradientClipNorm: 1,
    evaluation: { every: 0, batches: 2 },
    checkpoints: { every: 0, keep: 2 },
    folder,
    definitionHash: "tiny",
    resume: false,
    ...rest,
    journal: await RunJournal.open(folder),
  };
}

/** Runs a tiny run and closes its journal, however it ends. */
export async function runTiny(
  folder: string,
  data: SequenceData,
  changes: TinyRun = {},
): Promise<TrainingResult> {
  const setup = await tinySetup(folder, data, changes);
  try {
    return await train(setup);
  } finally {
    await setup.journal.close();
  }
}

/** Folders that a test file makes, all removed by `clean`. */
export function temporaryFolders(): { make(): Promise<string>; clean(): Promise<void> } {
  const made: string[] = [];
  return {
    async make() {
      const folder = await mkdtemp(join(tmpdir(), "tiny-run-"));
      made.push(folder);
      return folder;
    },
    async clean() {
      for (const folder of made) await rm(folder, { recursive: true, force: true });
    },
  };
}
