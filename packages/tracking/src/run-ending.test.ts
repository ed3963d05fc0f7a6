import { describe, expect, it } from "vitest";
import type { RunEvent } from "./records.js";
import { endingOf } from "./run-ending.js";

const start: RunEvent = { event: "start", step: 0, time: 1 };
const resume = (step: number): RunEvent => ({ event: "resume", step, time: 3 });
const interrupted: RunEvent = { event: "interrupted", step: 3, time: 2 };
const diverged: RunEvent = { event: "diverged", step: 3, time: 2, loss: 9 };
const end: RunEvent = {
  event: "end",
  step: 5,
  time: 2,
  finalTrainLoss: 1,
  finalEvalLoss: 1,
  flops: 1,
  seconds: 1,
  tokensPerSecond: 1,
};
const checkpoint: RunEvent = { event: "checkpoint", step: 5, time: 4, path: "checkpoints/step-5" };

describe("the ending of a run", () => {
  it.each([
    ["nothing yet", [], undefined],
    ["still training", [start], undefined],
    ["finished", [start, end], "end"],
    ["interrupted", [start, interrupted], "interrupted"],
    ["diverged", [start, diverged], "diverged"],
    ["interrupted, then resumed", [start, interrupted, resume(3)], undefined],
    ["diverged, then resumed", [start, diverged, resume(3)], undefined],
    ["finished, then resumed with nothing left", [start, end, resume(5), resume(5)], "end"],
    ["finished, then resumed at an earlier checkpoint", [start, end, resume(4)], undefined],
    ["finished, then resumed and trained", [start, end, resume(4), checkpoint], undefined],
    ["finished, resumed earlier, finished again", [start, end, resume(4), end], "end"],
  ] as const)("%s", (_, events, ending) => {
    expect(endingOf(events)?.event).toBe(ending);
  });
});
