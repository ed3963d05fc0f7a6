import type { TrainingProgress } from "@espalier/trainer";
import { describe, expect, it } from "vitest";
import { progressLine } from "./progress-line.js";

const progress: TrainingProgress = {
  step: 120,
  totalSteps: 1200,
  fraction: 0.1,
  stage: 0,
  uniqueLayers: 3,
  depth: 5,
  loss: 5.21304,
  evaluationLoss: null,
  learningRate: 1e-3,
  flops: 7.9e11,
  tokens: 245_760,
  seconds: 20,
  tokensPerSecond: 12_288,
  secondsLeft: 190,
};

function stream(isTTY: boolean, columns = 120) {
  const written: string[] = [];
  return {
    isTTY,
    columns,
    written,
    write(text: string | Uint8Array): boolean {
      written.push(String(text));
      return true;
    },
  };
}

describe("progressLine", () => {
  it("keeps one live line on a terminal, at most ten times a second", () => {
    const output = stream(true);
    let now = 0;
    const line = progressLine(output, 3, () => now);
    line.step(progress);
    line.step({ ...progress, step: 121 });
    now = 150;
    line.step({ ...progress, step: 122 });
    expect(output.written).toEqual([
      "\rstep 120/1200 · stage 1/3 · depth 5 from 3 · loss 5.2130 · 12.3 k tokens/s · 790 GFLOPs · 3 min 10 s left\u001b[K",
      expect.stringMatching(/^\rstep 122/),
    ]);
    line.close();
    expect(output.written.at(-1)).toBe("\r\u001b[K");
  });

  it("never wraps the live line", () => {
    const output = stream(true, 20);
    progressLine(output, 3).step(progress);
    expect(output.written).toEqual(["\rstep 120/1200 · sta\u001b[K"]);
  });

  it("puts what happens above the live line", () => {
    const output = stream(true);
    const line = progressLine(output, 3);
    line.step(progress);
    output.written.length = 0;
    line.event({
      event: "evaluation",
      step: 120,
      time: 0,
      loss: 5.2,
      depth: 3,
      targetDepth: 12,
      targetLoss: 5.3,
      flops: 1,
      tokens: 1,
      seconds: 1,
    });
    expect(output.written[0]).toBe("\r\u001b[K");
    expect(output.written[1]).toBe(
      "step 120: evaluation loss 5.2000 at 3 layers, 5.3000 at target depth 12\n",
    );
    expect(output.written[2]).toMatch(/^\rstep 120\/1200/);
  });

  it("says what grew: layers, or the whole shape where it is not the depth alone", () => {
    const output = stream(false);
    const line = progressLine(output, 3);
    const from = { depth: 2, hiddenSize: 32, attentionHeads: 1, intermediateSize: 128 };
    const growth = {
      event: "growth",
      step: 6,
      time: 0,
      stage: 1,
      expander: "split × interpolation",
      layerMap: null,
      mapHash: "0",
      seconds: 0.045,
      from,
    } as const;
    line.event({ ...growth, to: { ...from, depth: 4 } });
    line.event({ ...growth, to: { ...from, hiddenSize: 64, attentionHeads: 2, intermediateSize: 256 } });
    expect(output.written).toEqual([
      "step 6: grew from 2 to 4 layers by split × interpolation in 45 ms\n",
      "step 6: grew from 2×32, 1 head, intermediate 128 to 2×64, 2 heads, intermediate 256 by split × interpolation in 45 ms\n",
    ]);
  });

  it("estimates nothing when it is done", () => {
    const output = stream(false);
    progressLine(output, 3).step({ ...progress, fraction: 1, secondsLeft: 0.022 });
    expect(output.written.join("")).not.toContain("left");
  });

  it("writes plain lines into a log, every five seconds and at the end", () => {
    const output = stream(false);
    let now = 0;
    const line = progressLine(output, null, () => now);
    for (let step = 1; step <= 100; step++) {
      now += 100;
      line.step({ ...progress, step, totalSteps: null, fraction: step / 100 });
    }
    line.close();
    expect(output.written.map((text) => text.split(" · ")[0])).toEqual([
      "step 1 (1 %)",
      "step 51 (51 %)",
      "step 100 (100 %)",
    ]);
    expect(output.written.join("")).not.toContain("\u001b");
  });
});
