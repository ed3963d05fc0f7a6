/**
 * A priority queue of symbol pairs: the highest count first, among equals the smallest key. An entry holds the count at
 * the time it was pushed; whoever pops compares it with the present one.
 */
export class PairQueue {
  private readonly counts: number[] = [];
  private readonly keys: number[] = [];
  private readonly pairs: number[] = [];

  get size(): number {
    return this.counts.length;
  }

  push(count: number, key: number, pair: number): void {
    let at = this.counts.length;
    this.counts.push(count);
    this.keys.push(key);
    this.pairs.push(pair);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.precedes(at, parent)) break;
      this.swap(at, parent);
      at = parent;
    }
  }

  /** Removes the first entry. */
  pop(): { readonly count: number; readonly pair: number } | null {
    if (this.counts.length === 0) return null;
    const top = { count: this.counts[0]!, pair: this.pairs[0]! };
    this.swap(0, this.counts.length - 1);
    this.counts.pop();
    this.keys.pop();
    this.pairs.pop();
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      const right = left + 1;
      let best = at;
      if (left < this.counts.length && this.precedes(left, best)) best = left;
      if (right < this.counts.length && this.precedes(right, best)) best = right;
      if (best === at) return top;
      this.swap(at, best);
      at = best;
    }
  }

  private precedes(a: number, b: number): boolean {
    const difference = this.counts[a]! - this.counts[b]!;
    return difference !== 0 ? difference > 0 : this.keys[a]! < this.keys[b]!;
  }

  private swap(a: number, b: number): void {
    for (const values of [this.counts, this.keys, this.pairs]) {
      const held = values[a]!;
      values[a] = values[b]!;
      values[b] = held;
    }
  }
}
