import { describe, expect, it } from "vitest";
import { canonicalJson } from "./canonical-json.js";

describe("canonicalJson", () => {
  it("does not depend on the order in which keys were added", () => {
    expect(canonicalJson({ b: 1, a: { d: [1, 2], c: null } })).toBe('{"a":{"c":null,"d":[1,2]},"b":1}');
    expect(canonicalJson({ a: { c: null, d: [1, 2] }, b: 1 })).toBe('{"a":{"c":null,"d":[1,2]},"b":1}');
  });

  it("keeps the order of lists", () => {
    expect(canonicalJson([2, 1])).not.toBe(canonicalJson([1, 2]));
  });

  it("is JSON that says the same", () => {
    const value = {
      text: 'a"b\n\u2028',
      numbers: [0, -0, 1e21, 0.1, -5e-324],
      flags: [true, false, null],
      "": {},
    };
    expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
    expect(canonicalJson(-0)).toBe("0");
  });

  it("refuses what JSON cannot hold", () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => canonicalJson([value])).toThrow(TypeError);
    const withFunction: unknown = { f: () => 1 };
    expect(() => canonicalJson(withFunction as { f: null })).toThrow(TypeError);
  });
});
