import { definePlugin, type JsonObject, strategy, widthMoments } from "@espalier/core";
import { z } from "zod";
import { aki } from "./aki.js";
import { bottomLayers, widenedAndStacked } from "./depth.js";
import { directCopy } from "./direct-copy.js";
import { fpi } from "./fpi.js";
import { fromSource } from "./from-source.js";
import { twoStage } from "./two-stage.js";
import { selections } from "./unit-selection.js";

export { type AkiOptions, advancedKnowledge, aki } from "./aki.js";
export { bottomLayers, stackedFromBottom, widenedAndStacked } from "./depth.js";
export { directCopy } from "./direct-copy.js";
export { type FpiOptions, fpi } from "./fpi.js";
export { fromSource } from "./from-source.js";
export { subModels, type TwoStageOptions, twoStage } from "./two-stage.js";
export { type Selection, selections, selectUnits, unitMaps } from "./unit-selection.js";

const selection = z
  .enum(selections)
  .default("balanced")
  .describe(
    "balanced copies every unit equally often, give or take one; uniform draws each copy (the paper)",
  );
const fpiOptions = z.strictObject({
  selection,
  moments: z
    .enum(widthMoments)
    .default("gradient")
    .describe("gradient: as the grown model's own gradients would have left them"),
});
const akiOptions = z.strictObject({ selection, moments: z.enum(widthMoments).default("reset") });
const none = z.strictObject({});

const preset = (expander: JsonObject, sampler: JsonObject): JsonObject => ({
  schedule: { use: "from-source" },
  sampler,
  expander,
  sharing: "bottom",
});

export default definePlugin({
  name: "@espalier/plugin-bert2bert",
  contract: 1,
  strategies: [
    strategy({
      kind: "widthOperator",
      name: "fpi",
      description: "function-preserving initialisation: units are copied, what they feed is divided",
      options: fpiOptions,
      needs: [],
      create: fpi,
    }),
    strategy({
      kind: "widthOperator",
      name: "aki",
      description: "advanced knowledge initialisation: new units come from the next layer",
      options: akiOptions,
      needs: [],
      create: aki,
    }),
    strategy({
      kind: "widthOperator",
      name: "direct-copy",
      description:
        "the source in the first rows and columns, the rest initialised anew (the paper's baseline)",
      options: none,
      needs: [],
      create: directCopy,
    }),
    strategy({
      kind: "expander",
      name: "fpi",
      description: "width by FPI, then depth by stacking (bert2BERT)",
      options: fpiOptions,
      needs: [],
      create: (options) => widenedAndStacked("fpi", fpi(options), options.moments),
    }),
    strategy({
      kind: "expander",
      name: "aki",
      description: "width by AKI, then depth by stacking (bert2BERT)",
      options: akiOptions,
      needs: [],
      create: (options) => widenedAndStacked("aki", aki(options), options.moments),
    }),
    strategy({
      kind: "expander",
      name: "direct-copy",
      description: "width by direct copy, then depth by stacking (bert2BERT's baseline)",
      options: none,
      needs: [],
      create: () => widenedAndStacked("direct-copy", directCopy(), "reset"),
    }),
    strategy({
      kind: "layerMapping",
      name: "bottom",
      description: "the bottom layers, up to the executed depth; stacked where more run than there are",
      options: none,
      needs: [],
      create: () => bottomLayers,
    }),
    strategy({
      kind: "sampler",
      name: "two-stage",
      description: "first bottom sub-models of which only the top layers learn, then the whole (bert2BERT)",
      options: z.strictObject({
        subModelLayers: z
          .int()
          .min(1)
          .default(3)
          .describe("l_b: layers by which sub-models differ, and top layers that the first stage updates"),
        firstStage: z
          .number()
          .min(0)
          .max(1)
          .default(0.125)
          .describe("share of the budget of the first stage: E_b = 5 of 40 epochs"),
      }),
      needs: ["target"],
      create: (options, { target }) => twoStage(options, target.depth),
    }),
    strategy({
      kind: "schedule",
      name: "from-source",
      description: "the target shape throughout, grown from the run's source before the first step",
      options: none,
      needs: ["source"],
      create: (_options, { source }) => fromSource(source),
    }),
  ],
  presets: [
    {
      name: "bert2bert",
      description: "bert2BERT as published: AKI with uniform selection, stacking, two-stage training",
      growth: (target) =>
        preset(
          { use: "aki", selection: "uniform" },
          { use: "two-stage", subModelLayers: Math.min(3, target.depth), firstStage: 0.125 },
        ),
    },
    {
      name: "bert2bert-fpi",
      description: "bert2BERT's FPI with balanced selection, stacking; the whole model is trained throughout",
      growth: () => preset({ use: "fpi", selection: "balanced" }, { use: "unique" }),
    },
    {
      name: "direct-copy",
      description: "bert2BERT's baseline: the source in a corner of the target, the rest initialised anew",
      growth: () => preset({ use: "direct-copy" }, { use: "unique" }),
    },
  ],
});
