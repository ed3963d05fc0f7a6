import { definePlugin, momentPolicies, planLayers, strategy } from "@espalier/core";
import { z } from "zod";
import { appendedLayers } from "./append-top.js";

export default definePlugin({
  name: "append-top",
  contract: 1,
  strategies: [
    strategy({
      kind: "layerMapping",
      name: "append-top",
      description: "the unique layers, then copies of the topmost ones",
      options: z.strictObject({}),
      needs: [],
      create: () => appendedLayers,
    }),
    strategy({
      kind: "expander",
      name: "append-top",
      description: "copies of the topmost layers go on top (gradual stacking)",
      options: z.strictObject({ moments: z.enum(momentPolicies).default("carry") }),
      needs: [],
      create: ({ moments }) => ({
        preserves: "nothing",
        layerMapping: "append-top",
        plan(from, to, family) {
          const layerMap = appendedLayers(from.depth, to.depth);
          const layerSource = (layer: number) => [[layerMap[layer]!, 1]] as const;
          return planLayers({ expander: "append-top", from, to, family, moments, layerMap, layerSource });
        },
      }),
    }),
  ],
});
