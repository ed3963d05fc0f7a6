import { describe, expect, it } from "vitest";
import { EspalierError, suggest, UsageError, unknownName } from "./errors.js";

describe("suggest", () => {
  it("names all of ten or fewer, in order, the probable one first", () => {
    expect(suggest("lvsp", ["uniform", "lvps", "target"])).toBe(
      'did you mean "lvps"? One of: lvps, target, uniform',
    );
    expect(suggest("something-else", ["uniform", "lvps"])).toBe("One of: lvps, uniform");
  });

  it("names the nearest of many", () => {
    const names = Array.from({ length: 30 }, (_, index) => `layer-${index}`);
    expect(suggest("layer-07", names)).toMatch(/^did you mean "layer-\d+"\? The nearest: /);
    expect(suggest("layer-7", names)).toContain("layer-7");
    expect(suggest("layer-7", names).split(", ")).toHaveLength(5);
  });

  it("says when there are none", () => {
    expect(suggest("x", [])).toBe("there are none");
  });

  it("leaves the list that it was given in its order", () => {
    const names = ["b", "a"];
    suggest("a", names);
    expect(names).toEqual(["b", "a"]);
  });
});

describe("errors", () => {
  it("carry what a user can act on", () => {
    const cause = new Error("disk");
    const error = new EspalierError("ESPALIER_X", "no", { hint: "do y", file: "f", key: "a.b", cause });
    expect(error).toMatchObject({
      code: "ESPALIER_X",
      hint: "do y",
      file: "f",
      key: "a.b",
      exitCode: 1,
      cause,
    });
    expect(error.name).toBe("EspalierError");
    expect("cause" in new EspalierError("ESPALIER_X", "no")).toBe(false);
  });

  it("exit with 2 where the use was wrong", () => {
    const error = unknownName("ESPALIER_SAMPLER_UNKNOWN", "sampler", "lvp", ["lvps"], {
      key: "growth.sampler.use",
    });
    expect(error).toBeInstanceOf(UsageError);
    expect(error).toBeInstanceOf(EspalierError);
    expect(error.name).toBe("UsageError");
    expect(error.exitCode).toBe(2);
    expect(error.message).toBe('unknown sampler "lvp"; did you mean "lvps"? One of: lvps');
    expect(error.key).toBe("growth.sampler.use");
  });
});
