import { stream } from "@espalier/core";
import { expect, it } from "vitest";
import { PairQueue } from "./pair-queue.js";

it("gives the highest count first, and the smallest key among equals", () => {
  const queue = new PairQueue();
  const random = stream(5);
  const entries = Array.from({ length: 500 }, (_, pair) => ({
    count: random.integer(20, 2 * pair),
    key: random.integer(1_000_000, 2 * pair + 1),
    pair,
  }));
  for (const { count, key, pair } of entries) queue.push(count, key, pair);
  const popped: number[] = [];
  for (let top = queue.pop(); top !== null; top = queue.pop()) popped.push(top.pair);
  const sorted = [...entries].sort((a, b) => b.count - a.count || a.key - b.key);
  expect(popped).toEqual(sorted.map(({ pair }) => pair));
  expect(queue.size).toBe(0);
});
