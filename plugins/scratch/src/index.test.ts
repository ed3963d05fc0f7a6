import { stream } from "@espalier/core";
import {
  createStrategy,
  describePlugin,
  describeSchedule,
  progressAt,
  shapeOfDepth,
} from "@espalier/plugin-kit";
import { expect, it } from "vitest";
import plugin from "./index.js";

describePlugin(plugin);
describeSchedule("scratch", () => createStrategy(plugin, "schedule", "scratch"));

it("grows a shallower start at once", () => {
  const schedule = createStrategy(plugin, "schedule", "scratch");
  const input = (depth: number) => ({
    progress: progressAt(0, 200),
    current: shapeOfDepth(depth),
    target: shapeOfDepth(12),
    budget: { unit: "steps", amount: 200, steps: 200 } as const,
  });
  expect(schedule.next(null, input(3), stream(1))[0]).toEqual(shapeOfDepth(12));
  expect(schedule.next(null, input(12), stream(1))[0]).toBeNull();
});
