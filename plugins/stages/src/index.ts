import { definePlugin, strategy } from "@espalier/core";
import { z } from "zod";
import { stages } from "./stages.js";

export { shareOfSteps } from "./share-of-steps.js";
export { type StagesOptions, stages } from "./stages.js";

export default definePlugin({
  name: "@espalier/plugin-stages",
  contract: 1,
  strategies: [
    strategy({
      kind: "schedule",
      name: "stages",
      description: "grows to given depths at given shares of the budget",
      options: z.strictObject({
        depths: z.array(z.int().min(1)).min(1).describe("unique layers of each stage, ascending"),
        hiddenSizes: z
          .array(z.int().min(1))
          .min(1)
          .optional()
          .describe("hidden size of each stage, ascending to the target's; heads keep their size"),
        at: z.array(z.number()).min(1).describe("share of the budget at which each stage starts"),
      }),
      needs: [],
      create: stages,
    }),
  ],
});
