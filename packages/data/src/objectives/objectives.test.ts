import { type RandomStream, stream, type TokenizerInfo, UsageError } from "@espalier/core";
import { describe, expect, it } from "vitest";
import { causalLm } from "./causal-lm.js";
import { maskedLm, maskedLmDefaults } from "./masked-lm.js";

const bert: TokenizerInfo = {
  vocabSize: 1000,
  maskToken: 4,
  padToken: 0,
  endOfText: 3,
  specialTokens: [0, 1, 2, 3, 4],
};
const random = stream(3).fork("masking");

/** Rows of ordinary tokens between [CLS] and [SEP]. */
function rows(batchSize: number, sequenceLength: number, from: RandomStream): Int32Array {
  const tokens = new Int32Array(batchSize * sequenceLength);
  for (let at = 0; at < tokens.length; at++) tokens[at] = 5 + from.integer(995, at);
  for (let row = 0; row < batchSize; row++) {
    tokens[row * sequenceLength] = 2;
    tokens[(row + 1) * sequenceLength - 1] = 3;
  }
  return tokens;
}

describe("causal-lm", () => {
  it("predicts each next token, and nothing after a row's last", () => {
    const batch = causalLm().prepare(Int32Array.of(5, 6, 7, 8, 9, 10), 2, 3, random);
    expect([...batch.countedPositions]).toEqual([0, 1, 3, 4]);
    expect([...batch.labels]).toEqual([6, 7, 9, 10]);
    expect([...batch.inputIds]).toEqual([5, 6, 7, 8, 9, 10]);
    expect(batch.attentionMask).toBeNull();
    expect(causalLm().countedPositions(2, 3)).toBe(4);
    expect(causalLm().causal).toBe(true);
  });
});

describe("masked-lm", () => {
  const objective = maskedLm(maskedLmDefaults, bert);

  it("counts exactly max(1, round(0.15 n)) positions in each sequence", () => {
    for (const length of [3, 10, 30, 128, 512]) {
      const perSequence = Math.max(1, Math.round(0.15 * length));
      const batch = objective.prepare(rows(7, length, random), 7, length, random.fork(length));
      expect(batch.countedPositions.length).toBe(7 * perSequence);
      expect(objective.countedPositions(7, length)).toBe(7 * perSequence);
      for (let row = 0; row < 7; row++) {
        const inRow = batch.countedPositions.filter((position) => Math.floor(position / length) === row);
        expect(inRow.length).toBe(perSequence);
      }
      expect([...batch.countedPositions]).toEqual([...new Set(batch.countedPositions)].sort((a, b) => a - b));
    }
  });

  it("labels with the tokens that were there, changes nothing else, and leaves the sequences as they are", () => {
    const tokens = rows(16, 128, random.fork("text"));
    const before = tokens.slice();
    const batch = objective.prepare(tokens, 16, 128, random);
    expect(tokens).toEqual(before);
    const counted = new Set(batch.countedPositions);
    for (const [index, position] of batch.countedPositions.entries())
      expect(batch.labels[index]).toBe(tokens[position]);
    const changed = [...tokens.keys()].filter((position) => batch.inputIds[position] !== tokens[position]);
    expect(changed.every((position) => counted.has(position))).toBe(true);
  });

  it("masks 80 %, replaces 10 % by ordinary tokens and keeps 10 %; never touches special tokens", () => {
    let masked = 0;
    let kept = 0;
    let replaced = 0;
    const places = new Map<number, number>();
    for (let step = 0; step < 60; step++) {
      const tokens = rows(32, 128, random.fork(`text ${step}`));
      const batch = objective.prepare(tokens, 32, 128, random.fork(step));
      for (const position of batch.countedPositions) {
        if (tokens[position]! < 5) throw new Error("a special token is counted");
        places.set(position % 128, (places.get(position % 128) ?? 0) + 1);
        const now = batch.inputIds[position]!;
        if (now === 4) masked++;
        else if (now === tokens[position]) kept++;
        else if (now >= 5 && now < 1000) replaced++;
        else throw new Error(`replaced by ${now}`);
      }
    }
    const total = masked + kept + replaced;
    expect(total).toBe(60 * 32 * 19);
    // Four standard deviations of a share of 36 480 draws are at most 0.0084.
    expect(Math.abs(masked / total - 0.8)).toBeLessThan(0.0084);
    expect(Math.abs(kept / total - 0.1)).toBeLessThan(0.0065);
    expect(Math.abs(replaced / total - 0.1)).toBeLessThan(0.0065);
    expect(places.size).toBe(126);
    for (const count of places.values()) expect(Math.abs(count / total - 1 / 126)).toBeLessThan(0.002);
  });

  it("is the same for the same stream and another in the next micro-step", () => {
    const tokens = rows(4, 64, random);
    const first = objective.prepare(tokens, 4, 64, stream(1).fork(10));
    expect(objective.prepare(tokens, 4, 64, stream(1).fork(10))).toEqual(first);
    expect(objective.prepare(tokens, 4, 64, stream(1).fork(11)).countedPositions).not.toEqual(
      first.countedPositions,
    );
  });

  it("keeps the number where a sequence has too few ordinary tokens", () => {
    const length = 20;
    const tokens = Int32Array.from({ length: 2 * length }, () => 3);
    tokens[7] = 50;
    const everyOne = maskedLm({ probability: 0.15, maskShare: 1, randomShare: 0 }, bert);
    const batch = everyOne.prepare(tokens, 2, length, random);
    expect([...batch.countedPositions]).toEqual([0, 1, 7, 20, 21, 22]);
    expect([...batch.labels]).toEqual([3, 3, 50, 3, 3, 3]);
    expect(batch.inputIds[7]).toBe(4);
    expect(batch.inputIds.filter((token) => token === 4).length).toBe(1);
  });

  it("follows its options", () => {
    const tokens = rows(8, 100, random);
    const all = maskedLm({ probability: 0.5, maskShare: 1, randomShare: 0 }, bert).prepare(
      tokens,
      8,
      100,
      random,
    );
    expect(all.inputIds.filter((token) => token === 4).length).toBe(8 * 50);
    const none = maskedLm({ probability: 0.2, maskShare: 0, randomShare: 0 }, bert).prepare(
      tokens,
      8,
      100,
      random,
    );
    expect(none.inputIds).toEqual(tokens);
    expect(none.labels.length).toBe(160);
  });

  it("refuses a tokenizer that has no mask token", () => {
    const create = () => maskedLm(maskedLmDefaults, { ...bert, maskToken: null });
    expect(create).toThrow(UsageError);
    expect(create).toThrow(/mask token/);
  });

  it("takes well under two milliseconds for 32 sequences of 128", () => {
    const tokens = rows(32, 128, random);
    const times = Array.from({ length: 60 }, (_, step) => {
      const start = performance.now();
      objective.prepare(tokens, 32, 128, random.fork(step));
      return performance.now() - start;
    }).sort((a, b) => a - b);
    // The fastest tenth: other work on the machine is not ours to measure.
    expect(times[6]).toBeLessThan(2);
  });
});
