import { stream, type TrainingBudget, UsageError } from "@espalier/core";
import { progressAt, shapeOfDepth } from "@espalier/plugin-kit";
import { describe, expect, it } from "vitest";
import { stages } from "./stages.js";

const target = shapeOfDepth(12);
const stepsBudget = (steps: number): TrainingBudget => ({ unit: "steps", amount: steps, steps });

/** The key and the message of the UsageError that is thrown. */
function refusal(run: () => unknown): { key: string | undefined; message: string } {
  try {
    run();
  } catch (error) {
    if (error instanceof UsageError) return { key: error.key, message: error.message };
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("stages", () => {
  it("starts each stage at its share of the steps, rounded down", () => {
    const schedule = stages({ depths: [3, 6, 12], at: [0, 0.125, 0.3] });
    const planned = schedule.plan(stepsBudget(2500), target);
    expect(planned).toEqual([
      { index: 0, shape: shapeOfDepth(3), at: 0, firstStep: 0 },
      { index: 1, shape: shapeOfDepth(6), at: 0.125, firstStep: 312 },
      { index: 2, shape: shapeOfDepth(12), at: 0.3, firstStep: 750 },
    ]);
  });

  it("has the official stages of Apollo: epochs 2, 4 and 10 of 40", () => {
    const schedule = stages({ depths: [1, 3, 6, 12], at: [0, 0.05, 0.1, 0.25] });
    const planned = schedule.plan(stepsBudget(40_000), target);
    expect(planned === "adaptive" ? [] : planned.map((stage) => stage.firstStep)).toEqual([
      0, 2000, 4000, 10_000,
    ]);
  });

  it("gives no steps in advance for a budget of FLOPs, and grows by the share spent", () => {
    const schedule = stages({ depths: [3, 12], at: [0, 0.25] });
    const budget: TrainingBudget = { unit: "flops", amount: 1e12, steps: null };
    expect(schedule.plan(budget, target)).toMatchObject([{ firstStep: null }, { firstStep: null, at: 0.25 }]);
    const next = (fraction: number) =>
      schedule.next(
        null,
        { progress: { ...progressAt(7, 100), fraction }, current: shapeOfDepth(3), target, budget },
        stream(1),
      )[0];
    expect(next(0.2499)).toBeNull();
    expect(next(0.25)).toEqual(target);
  });

  it("grows at a boundary only once, and catches up where a start lies past several stages", () => {
    const schedule = stages({ depths: [3, 6, 12], at: [0, 0.125, 0.3] });
    const next = (step: number, depth: number) =>
      schedule.next(
        null,
        { progress: progressAt(step, 100), current: shapeOfDepth(depth), target, budget: stepsBudget(100) },
        stream(1),
      )[0]?.depth ?? null;
    expect([
      next(0, 3),
      next(11, 3),
      next(12, 3),
      next(12, 6),
      next(29, 6),
      next(30, 6),
      next(99, 12),
    ]).toEqual([null, null, 6, null, null, 12, null]);
    // From a checkpoint of depth 8: the stage of 6 layers is passed over.
    expect([next(0, 8), next(12, 8), next(30, 8)]).toEqual([null, null, 12]);
    expect(next(50, 3)).toBe(12);
  });

  it("starts narrow where hidden sizes say so: heads keep their size, the feed-forward part its proportion", () => {
    const schedule = stages({ depths: [3, 6, 6], hiddenSizes: [4, 4, 8], at: [0, 0.1, 0.3] });
    const wide = shapeOfDepth(6);
    const narrow = (depth: number) => ({ depth, hiddenSize: 4, attentionHeads: 1, intermediateSize: 8 });
    expect(schedule.initial(wide)).toEqual(narrow(3));
    expect(schedule.plan(stepsBudget(100), wide)).toMatchObject([
      { shape: narrow(3), firstStep: 0 },
      { shape: narrow(6), firstStep: 10 },
      { shape: wide, firstStep: 30 },
    ]);
    const next = (step: number, current: typeof wide) =>
      schedule.next(
        null,
        { progress: progressAt(step, 100), current, target: wide, budget: stepsBudget(100) },
        stream(1),
      )[0];
    expect([next(9, narrow(3)), next(10, narrow(3)), next(30, narrow(6)), next(30, wide)]).toEqual([
      null,
      narrow(6),
      wide,
      null,
    ]);
    // A source that is deeper than the stage, but narrower, is widened and keeps its depth.
    expect(
      stages({ depths: [3, 6], at: [0, 0.5] }).next(
        null,
        { progress: progressAt(0, 100), current: narrow(4), target: wide, budget: stepsBudget(100) },
        stream(1),
      )[0],
    ).toEqual({ ...wide, depth: 4 });
  });

  it("refuses hidden sizes at which heads would change their size, or that do not end at the target", () => {
    const refused = (hiddenSizes: number[]) =>
      refusal(() => stages({ depths: [3, 12], hiddenSizes, at: [0, 0.5] }).plan(stepsBudget(100), target));
    expect(refused([6, 8])).toMatchObject({ key: "growth.schedule.hiddenSizes" });
    expect(refused([6, 8]).message).toContain("heads keep their size (4 channels)");
    expect(refused([4, 4]).message).toContain("model.hiddenSize = 8), but ends at 4");
    expect(refused([8, 4]).message).toContain("must not fall");
    // The depth may stay where the width grows: it is the size that is wrong here, and not the depth.
    expect(refusal(() => stages({ depths: [3, 3, 12], hiddenSizes: [8, 4, 8], at: [0, 0.3, 0.5] }))).toEqual({
      key: "growth.schedule.hiddenSizes",
      message: "growth.schedule.hiddenSizes must not fall, but 8 is followed by 4 in [8, 4, 8]",
    });
    expect(refused([4]).message).toContain("2 depths, but 1 hidden sizes");
  });

  it.each([
    [{ depths: [], at: [] }, "growth.schedule.depths", "is empty"],
    [{ depths: [3, 3, 12], at: [0, 0.1, 0.2] }, "growth.schedule.depths", "3 is followed by 3"],
    [{ depths: [6, 3, 12], at: [0, 0.1, 0.2] }, "growth.schedule.depths", "6 is followed by 3"],
    [{ depths: [0, 12], at: [0, 0.1] }, "growth.schedule.depths", "stage 0 has 0"],
    [{ depths: [1.5, 12], at: [0, 0.1] }, "growth.schedule.depths", "stage 0 has 1.5"],
    [{ depths: [3, 12], at: [0] }, "growth.schedule.at", "2 depths, but 1 shares"],
    [{ depths: [3, 12], at: [0.1, 0.2] }, "growth.schedule.at", "starts at 0.1"],
    [{ depths: [3, 6, 12], at: [0, 0.3, 0.3] }, "growth.schedule.at", "0.3 is followed by 0.3"],
    [{ depths: [3, 6, 12], at: [0, 0.3, 0.2] }, "growth.schedule.at", "0.3 is followed by 0.2"],
    [{ depths: [3, 12], at: [0, 1] }, "growth.schedule.at", "it would have no steps"],
    [{ depths: [3, 12], at: [0, Number.NaN] }, "growth.schedule.at", "starts at NaN"],
  ])("refuses %j", (options, key, reason) => {
    const refused = refusal(() => stages(options));
    expect(refused.key).toBe(key);
    expect(refused.message).toContain(key);
    expect(refused.message).toContain(reason);
  });

  it("refuses to end elsewhere than at the target, saying both depths", () => {
    const schedule = stages({ depths: [3, 6], at: [0, 0.5] });
    for (const refused of [
      refusal(() => schedule.plan(stepsBudget(100), target)),
      refusal(() => schedule.initial(target)),
    ]) {
      expect(refused.key).toBe("growth.schedule.depths");
      expect(refused.message).toContain("model.depth = 12");
      expect(refused.message).toContain("ends at 6");
    }
  });

  it("refuses growth that the budget cannot reach: a stage without steps", () => {
    const schedule = stages({ depths: [1, 3, 6, 12], at: [0, 0.05, 0.1, 0.25] });
    for (const steps of [1, 4, 10, 19]) {
      const refused = refusal(() => schedule.plan(stepsBudget(steps), target));
      expect(refused.key).toBe("growth.schedule.at");
      expect(refused.message).toContain("leaves no steps for stage 0 (depth 1)");
    }
    expect(schedule.plan(stepsBudget(20), target)).toMatchObject([
      { firstStep: 0 },
      { firstStep: 1 },
      { firstStep: 2 },
      { firstStep: 5 },
    ]);
  });
});
