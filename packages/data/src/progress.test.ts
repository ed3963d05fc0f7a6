import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { progressRenderer } from "./progress.js";

/** A stream that remembers what was written, with a clock that the test sets. */
function output(isTTY: boolean) {
  const stream = Object.assign(new PassThrough(), {
    isTTY,
    columns: 100,
    cursorTo: () => true,
    clearLine: () => true,
    clearScreenDown: () => true,
    moveCursor: () => true,
  });
  let time = 0;
  return {
    options: { stream, now: () => time },
    at: (milliseconds: number) => {
      time = milliseconds;
    },
    written: (): string => String(stream.read() ?? ""),
  };
}

describe("progress", () => {
  it("says nothing of work that takes less than two seconds", () => {
    for (const isTTY of [true, false]) {
      const { options, at, written } = output(isTTY);
      const { onProgress, close } = progressRenderer(options);
      onProgress("tokenizing", 0, 100);
      at(1900);
      onProgress("tokenizing", 99, 100);
      onProgress("tokenizing", 100, 100);
      onProgress("another", 1, 2);
      at(3000);
      close();
      expect(written()).toBe("");
    }
  });

  it("writes plain lines to a log, one in ten seconds and one at the end", () => {
    const { options, at, written } = output(false);
    const { onProgress } = progressRenderer(options);
    onProgress("tokenizing", 0, 200);
    for (let second = 1; second <= 25; second++) {
      at(second * 1000);
      onProgress("tokenizing", second * 4, 200);
    }
    onProgress("tokenizing", 200, 200);
    expect(written()).toBe(
      "tokenizing: 4 %\ntokenizing: 24 %\ntokenizing: 44 %\ntokenizing: done in 25.0 s\n",
    );
  });

  it("counts where the end is not known, also on a terminal", () => {
    for (const isTTY of [true, false]) {
      const { options, at, written } = output(isTTY);
      const { onProgress, close } = progressRenderer(options);
      onProgress("counting words", 0, null);
      at(2500);
      onProgress("counting words", 1234567, null);
      close();
      expect(written()).toBe("counting words: 1,234,567 so far\ncounting words: done in 2.5 s\n");
    }
  });

  it("draws a bar on a terminal", () => {
    const { options, at, written } = output(true);
    const { onProgress, close } = progressRenderer(options);
    onProgress("tokenizing", 0, 200);
    at(2100);
    onProgress("tokenizing", 100, 200);
    const drawn = written();
    expect(drawn).toContain("tokenizing");
    expect(drawn).toContain("50%");
    close();
  });
});
