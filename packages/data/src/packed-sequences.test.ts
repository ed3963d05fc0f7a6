import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stream, UsageError } from "@espalier/core";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type PackedSequences, packSequences } from "./packed-sequences.js";
import type { SequenceMarkers } from "./text-tokenizer.js";
import { TokenShard, TokenShardWriter } from "./token-shard.js";

const plain: SequenceMarkers = { sequenceStart: null, sequenceEnd: null, documentEnd: 0 };
const bert: SequenceMarkers = { sequenceStart: 2, sequenceEnd: 3, documentEnd: 3 };
const order = stream(7).fork("order");

let folder: string;
let opened: PackedSequences[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "espalier-packed-"));
  opened = [];
});
afterEach(async () => {
  for (const data of opened) data.close();
  await rm(folder, { recursive: true, force: true });
});

async function shard(name: string, tokens: readonly number[], vocabSize = 1000): Promise<TokenShard> {
  const path = join(folder, name);
  const writer = await TokenShardWriter.create(path, "key", vocabSize);
  for (let at = 0; at < tokens.length; at += 7)
    await writer.append(Int32Array.from(tokens.slice(at, at + 7)));
  await writer.finish();
  return TokenShard.open(path, "key")!;
}

const numbers = (count: number, from = 10): number[] =>
  Array.from({ length: count }, (_, index) => from + index);

async function packed(train: number, length: number, markers = plain): Promise<PackedSequences> {
  const shards = {
    train: await shard("train", numbers(train)),
    validation: await shard("validation", numbers(40, 500)),
  };
  const data = packSequences(shards, length, markers);
  opened.push(data);
  return data;
}

/** The first token of each row: which sequence it is, where sequences are `length` tokens from 10 on. */
const sequencesOf = (batch: Int32Array, length: number): number[] =>
  Array.from({ length: batch.length / length }, (_, row) => (batch[row * length]! - 10) / length);

describe("a token shard", () => {
  it("gives back what was written, at either width", async () => {
    for (const vocabSize of [0x10000, 0x10001]) {
      const tokens = [0, 1, vocabSize - 1, 300, 5, 0, 7, 8, 9];
      const written = await shard(`width-${vocabSize}`, tokens, vocabSize);
      const into = new Int32Array(tokens.length + 2);
      written.read(0, tokens.length, into, 1);
      expect([...into]).toEqual([0, ...tokens, 0]);
      written.read(2, 2, into, 0);
      expect([...into.subarray(0, 2)]).toEqual([vocabSize - 1, 300]);
      written.close();
    }
  });

  it("is not opened when it is missing, of other data, cut short, too long or changed", async () => {
    (await shard("whole", numbers(100))).close();
    const path = join(folder, "whole");
    const bytes = await readFile(path);
    const opens = (key = "key"): boolean => {
      const found = TokenShard.open(path, key);
      found?.close();
      return found !== null;
    };
    expect([opens(), opens("another key")]).toEqual([true, false]);
    await truncate(path, bytes.length - 1);
    expect(opens()).toBe(false);
    await truncate(path, 100);
    expect(opens()).toBe(false);
    await writeFile(path, Buffer.concat([bytes, Buffer.of(0)]));
    expect(opens()).toBe(false);
    for (const at of [3, 40, bytes.length - 20]) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1;
      await writeFile(path, changed);
      expect(opens()).toBe(false);
    }
    await writeFile(path, bytes);
    expect(opens()).toBe(true);
    await rm(path);
    expect(opens()).toBe(false);
  });
});

describe("packed sequences", () => {
  it("cut the stream one after the other and leave out the rest", async () => {
    const data = await packed(59, 8);
    expect([data.count("train"), data.count("validation"), data.tokenCount("train")]).toEqual([7, 5, 59]);
    expect([...data.validationBatch(1, 2)]).toEqual(numbers(16, 508));
  });

  it("put markers around each sequence", async () => {
    const data = await packed(20, 6, bert);
    expect([data.count("train"), data.count("validation")]).toEqual([5, 10]);
    expect([...data.validationBatch(0, 2)]).toEqual([2, 500, 501, 502, 503, 3, 2, 504, 505, 506, 507, 3]);
  });

  it("visit every sequence once in an epoch, each epoch in another order", async () => {
    const data = await packed(240, 8);
    const epoch = (number: number) =>
      Array.from({ length: 6 }, (_, index) =>
        sequencesOf(data.trainingBatch(number * 6 + index, 5, order), 8),
      ).flat();
    const sorted = numbers(30, 0);
    const [first, second] = [epoch(0), epoch(1)];
    expect([...first].sort((a, b) => a - b)).toEqual(sorted);
    expect([...second].sort((a, b) => a - b)).toEqual(sorted);
    expect(first).not.toEqual(second);
    expect(first).not.toEqual(sorted);
    expect(first).toEqual([...order.fork(0).permutation(30)]);
  });

  it("go on in the next epoch's order within a batch that reaches over its end", async () => {
    const data = await packed(80, 8);
    const expected = [...order.fork(0).permutation(10), ...order.fork(1).permutation(10)];
    const batches = [0, 1, 2, 3, 4].map((index) => sequencesOf(data.trainingBatch(index, 4, order), 8));
    expect(batches.flat()).toEqual(expected);
  });

  it("are a pure function of the index: a run that starts in the middle of an epoch sees the same", async () => {
    const data = await packed(240, 8);
    const indices = Array.from({ length: 25 }, (_, index) => index);
    const run = indices.map((index) => data.trainingBatch(index, 4, order));
    const resumed = await packed(240, 8);
    expect(
      indices.slice(11).map((index) => resumed.trainingBatch(index, 4, stream(7).fork("order"))),
    ).toEqual(run.slice(11));
    for (const index of [24, 3, 17, 0, 8]) expect(data.trainingBatch(index, 4, order)).toEqual(run[index]);
    expect(data.trainingBatch(3, 4, stream(8).fork("order"))).not.toEqual(run[3]);
  });

  it("have a fingerprint of their content, length and markers", async () => {
    const same = [await packed(80, 8), await packed(80, 8)];
    const other = [await packed(81, 8), await packed(80, 9), await packed(80, 8, bert)];
    expect(same[0]!.fingerprint).toBe(same[1]!.fingerprint);
    expect(new Set([...same, ...other].map((data) => data.fingerprint)).size).toBe(4);
  });

  it("say how many tokens a batch needs that is larger than the split", async () => {
    const data = await packed(59, 8);
    expect(() => data.trainingBatch(0, 8, order)).toThrow(UsageError);
    expect(() => data.trainingBatch(0, 8, order)).toThrow(/needs 64 tokens.*gives 56/);
    expect(data.trainingBatch(0, 7, order).length).toBe(56);
    expect(() => data.validationBatch(4, 2)).toThrow(/has 5/);
    expect(() => data.trainingBatch(-1, 2, order)).toThrow(RangeError);
  });
});
