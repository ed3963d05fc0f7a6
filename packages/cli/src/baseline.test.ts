import { describe, expect, it } from "vitest";
import { baselineAmong } from "./baseline.js";

describe("baselineAmong", () => {
  it("is the first run unless another is named", () => {
    expect(baselineAmong(["runs/a", "runs/b"], undefined)).toEqual({
      all: ["runs/a", "runs/b"],
      baseline: 0,
    });
    expect(baselineAmong(["runs/a", "runs/b"], "./runs/b")).toEqual({
      all: ["runs/a", "runs/b"],
      baseline: 1,
    });
    expect(baselineAmong(["runs/a", "runs/b"], "b")).toEqual({ all: ["runs/a", "runs/b"], baseline: 1 });
  });

  it("joins the others where it is not among them", () => {
    expect(baselineAmong(["runs/a"], "runs/c")).toEqual({ all: ["runs/c", "runs/a"], baseline: 0 });
  });

  it("needs two runs", () => {
    expect(() => baselineAmong(["runs/a"], undefined)).toThrow('only one run to compare, "runs/a"');
    expect(() => baselineAmong(["runs/a"], "runs/a")).toThrow("only one run");
  });
});
