import { definePlugin, strategy } from "@espalier/core";
import { z } from "zod";
import { lvpsDefaults, lvpsLaw } from "./lvps.js";
import { apolloStages } from "./preset.js";
import { sigmoidDefaults, sigmoidLaw, uniformLaw } from "./rivals.js";
import { fixedDepth, samplerOf, targetDepth, uniqueDepth } from "./samplers.js";

export { type DepthLaw, depthDistribution, depthOfDraw, drawOfX } from "./depth-law.js";
export { type LvpsConstants, lvpsDefaults, lvpsLaw, lvpsTail } from "./lvps.js";
export { apolloStages } from "./preset.js";
export { type SigmoidConstants, sigmoidDefaults, sigmoidLaw, uniformLaw } from "./rivals.js";
export { fixedDepth, samplerOf, targetDepth, uniqueDepth } from "./samplers.js";

// y(xMin) = M/U + offset must lie above y(1) = end for every M ≥ U.
const curve = {
  end: z
    .number()
    .positive()
    .default(lvpsDefaults.end)
    .describe("the curve's value at x = 1, in multiples of U"),
  offset: z.number().default(lvpsDefaults.offset).describe("how far the curve starts above M/U"),
  xMin: z.number().positive().lt(1).default(lvpsDefaults.xMin).describe("the smallest x that is drawn"),
};
const falls = ({ end, offset }: { end: number; offset: number }): boolean => 1 + offset > end;
const fallsMessage = "the curve must fall: 1 + offset must be greater than end";
const none = z.strictObject({});

export default definePlugin({
  name: "@espalier/plugin-apollo-lvps",
  contract: 1,
  strategies: [
    strategy({
      kind: "sampler",
      name: "lvps",
      description:
        "low-value-prioritized sampling (Apollo): mostly the unique layers, rarely as deep as the target",
      options: z.strictObject(curve).refine(falls, fallsMessage),
      needs: [],
      create: (constants) => samplerOf(lvpsLaw(constants)),
    }),
    strategy({
      kind: "sampler",
      name: "uniform",
      description: "every depth from the unique layers to the target alike",
      options: none,
      needs: [],
      create: () => samplerOf(uniformLaw),
    }),
    strategy({
      kind: "sampler",
      name: "sigmoid",
      description: "mostly the shallowest or the deepest: depths along a sigmoid",
      options: z
        .strictObject({
          ...curve,
          steepness: z.number().positive().default(sigmoidDefaults.steepness),
          middle: z.number().min(0).max(1).default(sigmoidDefaults.middle),
        })
        .refine(falls, fallsMessage),
      needs: [],
      create: (constants) => samplerOf(sigmoidLaw(constants)),
    }),
    strategy({
      kind: "sampler",
      name: "target",
      description: "always the target depth, through shared layers",
      options: none,
      needs: [],
      create: () => targetDepth(),
    }),
    strategy({
      kind: "sampler",
      name: "unique",
      description: "always the unique layers: no sharing",
      options: none,
      needs: [],
      create: () => uniqueDepth(),
    }),
    strategy({
      kind: "sampler",
      name: "fixed",
      description: "always the given depth, or the unique layers once there are more",
      options: z.strictObject({ depth: z.int().min(1).describe("executed layers") }),
      needs: ["target"],
      create: ({ depth }, { target }) => fixedDepth(depth, target.depth),
    }),
  ],
  presets: [
    {
      name: "apollo",
      description: "Apollo: stages 1, 3, 6, 12 with LVPS and interpolation",
      growth: (target) => ({
        schedule: { use: "stages", ...apolloStages(target.depth) },
        sampler: { use: "lvps" },
        // Depth carries moments by default; a width operator beside it keeps its own default.
        expander: { use: "interpolation", mode: "nearest" },
        sharing: "interpolation",
      }),
    },
  ],
});
