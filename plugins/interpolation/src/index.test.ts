import { momentPolicies } from "@espalier/core";
import { createStrategy, describeExpander, describeLayerMapping, describePlugin } from "@espalier/plugin-kit";
import plugin, { interpolatedLayers } from "./index.js";

describePlugin(plugin);
describeLayerMapping("interpolation", () => createStrategy(plugin, "layerMapping", "interpolation"));
for (const mode of ["nearest", "linear"] as const)
  for (const moments of momentPolicies)
    describeExpander(
      `interpolation, ${mode}, ${moments}`,
      () => createStrategy(plugin, "expander", "interpolation", { mode, moments }),
      { moments, mapping: interpolatedLayers },
    );
