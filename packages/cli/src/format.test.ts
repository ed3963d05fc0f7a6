import { describe, expect, it } from "vitest";
import { formatBytes, formatCount, formatFlops, formatSeconds, formatShare } from "./format.js";

describe("formatting for people", () => {
  it.each([
    [0, "0"],
    [7, "7"],
    [0.25, "0.25"],
    [999, "999"],
    [999.6, "1.00 k"],
    [12_345, "12.3 k"],
    [123_456_789, "123 M"],
    [5.25e20, "525 E"],
  ])("counts %d", (value, text) => expect(formatCount(value)).toBe(text));

  it("knows units", () => {
    expect(formatFlops(1.37e13)).toBe("13.7 TFLOPs");
    expect(formatFlops(12)).toBe("12 FLOPs");
    expect(formatBytes(3_480_000)).toBe("3.48 MB");
    expect(formatShare(-0.0312)).toBe("−3.1 %");
  });

  it.each([
    [0.0123, "12 ms"],
    [5.04, "5.0 s"],
    [59.7, "1 min 00 s"],
    [185, "3 min 05 s"],
    [7260, "2 h 01 min"],
    [180_000, "2 d 02 h"],
  ])("says %d seconds", (seconds, text) => expect(formatSeconds(seconds)).toBe(text));
});
