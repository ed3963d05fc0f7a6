import { describe, expect, it } from "vitest";
import { deeplyFrozen, runChecks, withoutChanceAndTime } from "./checks.js";

describe("runChecks", () => {
  const checks = { "a thing holds": () => {} };

  it("refuses to skip without a reason, or what is not there", () => {
    expect(() => runChecks(checks, { "a thing holds": " " })).toThrow("is skipped without a reason");
    const misspelt: { [name: string]: string } = { "a thing hold": "too hard" };
    expect(() => runChecks(checks, misspelt)).toThrow('did you mean "a thing holds"?');
  });
});

describe("withoutChanceAndTime", () => {
  it("refuses chance and time inside, and only there", () => {
    for (const read of [() => Math.random(), () => Date.now(), () => performance.now()]) {
      expect(() => withoutChanceAndTime(read)).toThrow("chance comes from the given stream");
      expect(Number.isFinite(read())).toBe(true);
    }
    expect(withoutChanceAndTime(() => 3)).toBe(3);
  });
});

describe("deeplyFrozen", () => {
  it("freezes everything below", () => {
    const value = deeplyFrozen({ a: [{ b: 1 }], c: null });
    expect(() => {
      (value.a[0] as { b: number }).b = 2;
    }).toThrow(TypeError);
    expect(value).toEqual({ a: [{ b: 1 }], c: null });
  });
});
