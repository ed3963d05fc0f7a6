import { definePlugin, type MomentPolicy, momentPolicies, momentsForWidth, strategy } from "@espalier/core";
import { strategyName } from "@espalier/core/strategy-name";
import { z } from "zod";
import { interpolationExpander } from "./expander.js";
import { interpolatedLayers } from "./interpolation.js";

export { interpolationExpander } from "./expander.js";
export { blendedLayers, interpolatedLayers } from "./interpolation.js";

const byDefault: MomentPolicy = "carry";

export default definePlugin({
  name: "@espalier/plugin-interpolation",
  contract: 1,
  strategies: [
    strategy({
      kind: "layerMapping",
      name: "interpolation",
      description: "executed layer i of d uses unique layer floor(i·U/d): neighbours share",
      options: z.strictObject({}),
      needs: [],
      create: () => interpolatedLayers,
    }),
    strategy({
      kind: "expander",
      name: "interpolation",
      description: "new layers are copies of their neighbour (nearest) or blends of two neighbours (linear)",
      options: z
        .strictObject({
          mode: z.enum(["nearest", "linear"]).default("nearest"),
          moments: z
            .enum(momentPolicies)
            .optional()
            .describe("default carry; beside a width operator the operator's own for what that widens"),
          width: strategyName.optional().describe("width operator for growth in width, such as fpi"),
        })
        // Beside a width operator it counts whether the policy was given, which a lock must show, too.
        .transform((options) =>
          options.width === undefined ? { ...options, moments: options.moments ?? byDefault } : options,
        ),
      needs: ["widthOperator"],
      create: ({ mode, width, moments }, { widthOperator }) =>
        interpolationExpander({
          mode,
          moments: moments ?? byDefault,
          width: width === undefined ? null : widthOperator(width),
          widthMoments: momentsForWidth(width, moments),
        }),
    }),
  ],
});
