import { definePlugin, type Plugin, strategy } from "@espalier/core";
import { z } from "zod";
import { adamWOptimizer } from "./adamw-optimizer.js";
import { cosineDecay, learningRateSchedule, linearDecay, noDecay, squareRootDecay } from "./learning-rate.js";

const ratio = z.number().min(0).max(1);
const steps = z.int().min(0);

const warmup = {
  warmupRatio: ratio.optional().describe("share of the budget in which the rate climbs from 0 to its peak"),
  warmupSteps: steps.optional().describe("the same in optimizer steps"),
  rewarmupRatio: ratio.optional().describe("share of the budget in which it climbs anew after each growth"),
  rewarmupSteps: steps.optional().describe("the same in optimizer steps"),
};
const minimum = {
  minimumRatio: ratio.default(0).describe("the rate at the end, as a share of the peak"),
};

function oneOfEach(options: { [Key in keyof typeof warmup]?: number | undefined }): boolean {
  return (
    (options.warmupRatio === undefined || options.warmupSteps === undefined) &&
    (options.rewarmupRatio === undefined || options.rewarmupSteps === undefined)
  );
}
const both = { error: "give the warm-up as a ratio or in steps, not both" };

const decaying = z.strictObject({ ...warmup, ...minimum }).refine(oneOfEach, both);
const holding = z.strictObject(warmup).refine(oneOfEach, both);
const stableThenDecaying = z
  .strictObject({
    ...warmup,
    ...minimum,
    decayRatio: ratio.default(0.2).describe("share of the budget at its end in which the rate falls"),
    decay: z.enum(["linear", "cosine", "square-root"]).default("linear"),
  })
  .refine(oneOfEach, both);
const decays = { linear: linearDecay, cosine: cosineDecay, "square-root": squareRootDecay } as const;

const beta = z.number().min(0).lt(1);

/** What the trainer brings itself: AdamW and the learning-rate schedules. */
export const trainerPlugin: Plugin = definePlugin({
  name: "@espalier/trainer",
  contract: 1,
  strategies: [
    strategy({
      kind: "optimizer",
      name: "adamw",
      description: "Adam with decoupled weight decay; none on biases and layer norms",
      options: z.strictObject({
        learningRate: z.number().positive().default(1e-3).describe("the peak of the schedule"),
        weightDecay: z.number().min(0).default(0.01),
        beta1: beta.default(0.9),
        beta2: beta.default(0.999),
        epsilon: z.number().positive().default(1e-8),
      }),
      needs: [],
      create: (options) => adamWOptimizer(options),
    }),
    strategy({
      kind: "learningRate",
      name: "cosine",
      description: "warm-up, then half a cosine wave down over the rest of the budget",
      options: decaying,
      needs: ["budget"],
      create: (options, { budget }) => learningRateSchedule(options, budget, cosineDecay),
    }),
    strategy({
      kind: "learningRate",
      name: "linear",
      description: "warm-up, then a straight line down over the rest of the budget",
      options: decaying,
      needs: ["budget"],
      create: (options, { budget }) => learningRateSchedule(options, budget, linearDecay),
    }),
    strategy({
      kind: "learningRate",
      name: "constant",
      description: "warm-up, then the peak throughout",
      options: holding,
      needs: ["budget"],
      create: (options, { budget }) => learningRateSchedule(options, budget, noDecay),
    }),
    strategy({
      kind: "learningRate",
      name: "warmup-stable-decay",
      description: "warm-up, the peak held, then a decay over the last share of the budget",
      options: stableThenDecaying,
      needs: ["budget"],
      create: (options, { budget }) =>
        learningRateSchedule(options, budget, decays[options.decay], options.decayRatio),
    }),
  ],
});
