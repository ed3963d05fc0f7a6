import { createStrategy, describeExpander, describeLayerMapping, describePlugin } from "@espalier/plugin-kit";
import { expect, it } from "vitest";
import { appendedLayers } from "./append-top.js";
import plugin from "./index.js";

describePlugin(plugin);
describeLayerMapping("append-top", () => appendedLayers);
describeExpander("append-top", () => createStrategy(plugin, "expander", "append-top"));

it("appends the tail", () => {
  expect(appendedLayers(6, 8)).toEqual([0, 1, 2, 3, 4, 5, 4, 5]);
  expect(appendedLayers(4, 6)).toEqual([0, 1, 2, 3, 2, 3]);
});
