import { PairQueue } from "./pair-queue.js";

/** A distinct word of the text as symbols (token ids), with how often it occurs. */
export interface CountedWord {
  readonly symbols: readonly number[];
  readonly count: number;
}

/** What merges are learnt from. */
export interface MergeTrainingInput {
  readonly words: readonly CountedWord[];
  /** Tokens that exist before the first merge; a symbol is an index into it. */
  readonly initialTokens: readonly string[];
  /** Writing of a merged token. */
  readonly join: (left: string, right: string) => string;
  readonly vocabSize: number;
  /** Told the number of tokens so far. */
  readonly onProgress?: (tokens: number) => void;
}

/** Tokens in the order of their ids, and merges in the order they were learnt. */
export interface LearnedMerges {
  /** At most `vocabSize`; fewer if no pair was left to merge. */
  readonly tokens: readonly string[];
  /** Pairs of token ids. */
  readonly merges: readonly (readonly [number, number])[];
}

/** Larger than any token id, so that a pair is one number and pairs compare by left, then right id. */
const pairBase = 2 ** 26;
/** Between two turns of the event loop, in milliseconds. */
const turnInterval = 100;

/**
 * Byte-pair encoding (Sennrich et al., 2016, algorithm 1): merges the most frequent pair of adjacent symbols until the
 * vocabulary is full; among equally frequent pairs the one with the smallest ids. Counts of pairs are kept up to date
 * word by word, so that a merge costs the words that it changes and no pass over the text. Deterministic.
 */
export async function learnMerges(input: MergeTrainingInput): Promise<LearnedMerges> {
  const training = new MergeTraining(input);
  let turn = Date.now();
  while (training.tokens.length < input.vocabSize && training.mergeNext()) {
    if (Date.now() - turn < turnInterval) continue;
    input.onProgress?.(training.tokens.length);
    // Signals and timers get their turn.
    await new Promise((resolve) => setImmediate(resolve));
    turn = Date.now();
  }
  input.onProgress?.(training.tokens.length);
  return { tokens: training.tokens, merges: training.merges };
}

class MergeTraining {
  readonly tokens: string[];
  readonly merges: [number, number][] = [];

  private readonly ids = new Map<string, number>();
  private readonly join: (left: string, right: string) => string;
  /** All words, one after the other; a word keeps its place and gets shorter. */
  private readonly symbols: Int32Array;
  private readonly starts: Int32Array;
  private readonly lengths: Int32Array;
  private readonly wordCounts: Float64Array;

  private readonly pairIndex = new Map<number, number>();
  private readonly pairKeys: number[] = [];
  private readonly pairCounts: number[] = [];
  /** Words in which a pair stands or stood. */
  private readonly pairWords: number[][] = [];
  private readonly learned = new Set<number>();
  private readonly queue = new PairQueue();

  constructor(input: MergeTrainingInput) {
    this.tokens = [...input.initialTokens];
    for (const [id, token] of this.tokens.entries()) this.ids.set(token, id);
    this.join = input.join;
    const words = input.words.filter((word) => word.symbols.length > 1);
    this.symbols = new Int32Array(words.reduce((sum, word) => sum + word.symbols.length, 0));
    this.starts = new Int32Array(words.length);
    this.lengths = new Int32Array(words.length);
    this.wordCounts = new Float64Array(words.length);
    let at = 0;
    for (const [index, word] of words.entries()) {
      this.starts[index] = at;
      this.lengths[index] = word.symbols.length;
      this.wordCounts[index] = word.count;
      this.symbols.set(word.symbols, at);
      at += word.symbols.length;
      for (let left = 0; left + 1 < word.symbols.length; left++)
        this.addPair(word.symbols[left]!, word.symbols[left + 1]!, index);
    }
    for (const [pair, count] of this.pairCounts.entries()) this.queue.push(count, this.pairKeys[pair]!, pair);
  }

  /** Makes the next merge; false if no pair is left. */
  mergeNext(): boolean {
    for (;;) {
      const top = this.queue.pop();
      if (top === null) return false;
      const count = this.pairCounts[top.pair]!;
      if (count <= 0) continue;
      if (count !== top.count) {
        this.queue.push(count, this.pairKeys[top.pair]!, top.pair);
        continue;
      }
      this.merge(top.pair);
      return true;
    }
  }

  private merge(pair: number): void {
    const key = this.pairKeys[pair]!;
    const left = Math.floor(key / pairBase);
    const right = key % pairBase;
    const token = this.join(this.tokens[left]!, this.tokens[right]!);
    // Two pairs can spell the same token (ab+c, a+bc): it keeps one id.
    let id = this.ids.get(token);
    if (id === undefined) {
      id = this.tokens.length;
      this.tokens.push(token);
      this.ids.set(token, id);
    }
    if (!this.learned.has(key)) {
      this.learned.add(key);
      this.merges.push([left, right]);
    }
    const words = this.pairWords[pair]!;
    this.pairWords[pair] = [];
    const changed = new Set<number>();
    for (const word of words) this.mergeInWord(word, left, right, id, changed);
    for (const other of changed) {
      const count = this.pairCounts[other]!;
      if (count > 0) this.queue.push(count, this.pairKeys[other]!, other);
    }
  }

  /** @param changed receives the pairs that the merge made */
  private mergeInWord(word: number, left: number, right: number, merged: number, changed: Set<number>): void {
    const { symbols } = this;
    const start = this.starts[word]!;
    const length = this.lengths[word]!;
    const end = start + length;
    let first = start;
    while (first + 1 < end && !(symbols[first] === left && symbols[first + 1] === right)) first++;
    if (first + 1 >= end) return;

    const count = this.wordCounts[word]!;
    for (let at = start; at + 1 < end; at++)
      this.pairCounts[this.pairIndex.get(symbols[at]! * pairBase + symbols[at + 1]!)!]! -= count;
    let write = first;
    for (let read = first; read < end; read++) {
      if (read + 1 < end && symbols[read] === left && symbols[read + 1] === right) {
        symbols[write++] = merged;
        read++;
      } else symbols[write++] = symbols[read]!;
    }
    this.lengths[word] = write - start;
    for (let at = start; at + 1 < write; at++) {
      const a = symbols[at]!;
      const b = symbols[at + 1]!;
      if (a === merged || b === merged) changed.add(this.addPair(a, b, word));
      else this.pairCounts[this.pairIndex.get(a * pairBase + b)!]! += count;
    }
  }

  private addPair(left: number, right: number, word: number): number {
    const key = left * pairBase + right;
    let pair = this.pairIndex.get(key);
    if (pair === undefined) {
      pair = this.pairKeys.length;
      this.pairIndex.set(key, pair);
      this.pairKeys.push(key);
      this.pairCounts.push(0);
      this.pairWords.push([]);
    }
    this.pairCounts[pair]! += this.wordCounts[word]!;
    const words = this.pairWords[pair]!;
    if (words[words.length - 1] !== word) words.push(word);
    return pair;
  }
}
