import { definePlugin, strategy } from "@espalier/core";
import { z } from "zod";
import { scratch } from "./scratch.js";

export { scratch } from "./scratch.js";

export default definePlugin({
  name: "@espalier/plugin-scratch",
  contract: 1,
  strategies: [
    strategy({
      kind: "schedule",
      name: "scratch",
      description: "the target shape from the first step on: no growth",
      options: z.strictObject({}),
      needs: [],
      create: () => scratch(),
    }),
  ],
  presets: [
    {
      name: "scratch",
      description: "training at target depth throughout: the baseline",
      growth: () => ({
        schedule: { use: "scratch" },
        sampler: { use: "unique" },
        expander: { use: "interpolation" },
        sharing: "interpolation",
      }),
    },
  ],
});
