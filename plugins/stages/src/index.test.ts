import { createStrategy, describePlugin, describeSchedule, shapeOfDepth } from "@espalier/plugin-kit";
import plugin from "./index.js";

const apollo = { depths: [1, 3, 6, 12], at: [0, 0.05, 0.1, 0.25] };
const doubling = { depths: [3, 6, 12], at: [0, 0.125, 0.3] };

describePlugin(plugin, { examples: { "schedule stages": doubling } });
describeSchedule("stages of Apollo", () => createStrategy(plugin, "schedule", "stages", apollo));
describeSchedule("stages of StackBERT", () => createStrategy(plugin, "schedule", "stages", doubling));
describeSchedule(
  "a single stage",
  () => createStrategy(plugin, "schedule", "stages", { depths: [5], at: [0] }),
  { target: shapeOfDepth(5) },
);
