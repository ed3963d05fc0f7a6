import { definePlugin, momentPolicies, momentsForWidth, strategy } from "@espalier/core";
import { strategyName } from "@espalier/core/strategy-name";
import { z } from "zod";
import { type StackingMoments, stackingExpander } from "./expander.js";
import { doublingStages, stackedLayers } from "./stacking.js";

export { type StackingMoments, stackingExpander } from "./expander.js";
export { doublingStages, stackedLayers } from "./stacking.js";

const byDefault: StackingMoments = "reset";

export default definePlugin({
  name: "@espalier/plugin-stackbert",
  contract: 1,
  strategies: [
    strategy({
      kind: "layerMapping",
      name: "stacking",
      description:
        "whole copies of the unique layers on top of one another, the remainder from the top layers",
      options: z.strictObject({}),
      needs: [],
      create: () => stackedLayers,
    }),
    strategy({
      kind: "expander",
      name: "stacking",
      description: "the trained layers are copied on top of themselves (StackBERT)",
      options: z
        .strictObject({
          moments: z
            .enum([...momentPolicies, "reset-all"])
            .optional()
            .describe("default reset; beside a width operator the operator's own for what that widens"),
          width: strategyName.optional().describe("width operator for growth in width, such as fpi"),
        })
        // Beside a width operator it counts whether the policy was given, which a lock must show, too.
        .transform((options) =>
          options.width === undefined ? { ...options, moments: options.moments ?? byDefault } : options,
        ),
      needs: ["widthOperator"],
      create: ({ moments, width }, { widthOperator }) =>
        stackingExpander({
          moments: moments ?? byDefault,
          width: width === undefined ? null : widthOperator(width),
          // `reset-all` empties afterwards whatever is left.
          widthMoments: momentsForWidth(width, moments === "reset-all" ? "reset" : moments),
        }),
    }),
  ],
  presets: [
    {
      name: "stackbert",
      description: "progressive stacking: depth doubles twice, at 12.5 % and 30 % of the budget",
      growth: (target) => ({
        schedule: { use: "stages", ...doublingStages(target.depth) },
        sampler: { use: "unique" },
        expander: { use: "stacking", moments: "reset" },
        sharing: "stacking",
      }),
    },
  ],
});
