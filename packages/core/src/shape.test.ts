import { describe, expect, it } from "vitest";
import { UsageError } from "./errors.js";
import { checkShape, formatShape, type ModelShape, sameShape, shapeAxes, shapeOf } from "./shape.js";

const base: ModelShape = { depth: 12, hiddenSize: 768, attentionHeads: 12, intermediateSize: 3072 };

function refusal(shape: ModelShape, key?: string): UsageError {
  try {
    checkShape(shape, key);
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("checkShape", () => {
  it("takes what a Transformer can have", () => {
    expect(() => checkShape(base)).not.toThrow();
    expect(() =>
      checkShape({ depth: 1, hiddenSize: 1, attentionHeads: 1, intermediateSize: 1 }),
    ).not.toThrow();
  });

  it("refuses sizes that are no whole numbers from 1 on, naming the axis and the value", () => {
    for (const axis of shapeAxes)
      for (const value of [0, -3, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        const error = refusal({ ...base, [axis]: value });
        expect(error.key).toBe(`model.${axis}`);
        expect(error.exitCode).toBe(2);
        expect(error.message).toContain(`model.${axis}`);
        expect(error.message).toContain(String(value));
      }
  });

  it("refuses heads that do not divide the hidden size, and names some that do", () => {
    const error = refusal({ ...base, attentionHeads: 7 }, "start.model");
    expect(error.key).toBe("start.model.hiddenSize");
    expect(error.message).toContain("(768) is not divisible by start.model.attentionHeads (7)");
    expect(error.hint).toContain("12, 16, 24");
  });
});

describe("shapes", () => {
  it("are compared by their four axes", () => {
    const config = { ...base, vocabSize: 5 };
    expect(shapeOf(config)).toEqual(base);
    expect(sameShape(config, base)).toBe(true);
    for (const axis of shapeAxes) expect(sameShape(base, { ...base, [axis]: 1 })).toBe(false);
  });

  it("are written on one line", () => {
    expect(formatShape(base)).toBe("12×768, 12 heads, intermediate 3072");
    expect(formatShape({ ...base, attentionHeads: 1 })).toBe("12×768, 1 head, intermediate 3072");
  });
});
