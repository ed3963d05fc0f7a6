/**
 * Named, counter-based random streams. A stream is a 64-bit key; a draw is a pure function of key and index
 * (Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Nothing advances, so there is
 * no generator state to save, and one more draw in one place shifts nothing elsewhere. Draws of different kinds at the
 * same index come from the same block: where two kinds must be independent, fork.
 *
 * @example
 * const depth = stream(42).fork("sampler").fork(step).uniform();
 */
export interface RandomStream {
  /** An independent stream, named by a label or a number (a step, an epoch, a layer). */
  fork(label: string | number): RandomStream;
  /** Draw `index` as a 32-bit unsigned integer. */
  uint32(index?: number): number;
  /** Draw `index`, uniform in [0, 1) with 53 bits. */
  uniform(index?: number): number;
  /** Draw `index`, uniform in 0..bound-1. The bias is below bound / 2^53. */
  integer(bound: number, index?: number): number;
  /** Draw `index` from the standard normal distribution (Box–Muller; |x| < 6.8). */
  normal(index?: number): number;
  /** `count` standard normal draws, indices 0..count-1, as float32. */
  normals(count: number): Float32Array;
  /** A uniformly random permutation of 0..length-1 (Fisher–Yates). */
  permutation(length: number): Uint32Array;
}

const multiplier0 = 0xd2511f53;
const multiplier1 = 0xcd9e8d57;
const weyl0 = 0x9e3779b9;
const weyl1 = 0xbb67ae85;

/** High half of an unsigned 32×32-bit product, without BigInt: this is on the path of every initial weight. */
function multiplyHigh(a: number, b: number): number {
  const aHigh = a >>> 16;
  const aLow = a & 0xffff;
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  const low = aLow * bLow;
  const middle = aHigh * bLow + (low >>> 16);
  const other = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(other / 0x10000)) >>> 0;
}

/**
 * One Philox4x32-10 block.
 *
 * @param counter four 32-bit words
 * @param key0 low word of the key
 * @param key1 high word of the key
 * @returns four 32-bit words
 */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key0: number,
  key1: number,
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let k0 = key0 >>> 0;
  let k1 = key1 >>> 0;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(multiplier0, c0);
    const low0 = Math.imul(multiplier0, c0) >>> 0;
    const high1 = multiplyHigh(multiplier1, c2);
    const low1 = Math.imul(multiplier1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + weyl0) >>> 0;
    k1 = (k1 + weyl1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

// The fourth counter word keeps draws, string labels and number labels apart.
const purposeDraw = 0;
const purposeText = 1;
const purposeNumber = 2;
const purposeLength = 3;

/** Box–Muller's radius of a uniform 32-bit word, which is taken at the middle of its cell and so never 0. */
function radius(word: number): number {
  return Math.sqrt(-2 * Math.log((word + 0.5) / 0x100000000));
}

class PhiloxStream implements RandomStream {
  constructor(
    private readonly key0: number,
    private readonly key1: number,
  ) {}

  fork(label: string | number): RandomStream {
    if (typeof label === "number") {
      if (!Number.isSafeInteger(label))
        throw new RangeError(`a stream is forked by whole numbers, not ${label}`);
      const low = label >>> 0;
      const high = Math.floor(label / 0x100000000) >>> 0;
      const [k0, k1] = philox4x32([low, high, 0, purposeNumber], this.key0, this.key1);
      return new PhiloxStream(k0, k1);
    }
    const bytes = new TextEncoder().encode(label);
    let k0 = this.key0;
    let k1 = this.key1;
    const word = (at: number): number =>
      ((bytes[at] ?? 0) |
        ((bytes[at + 1] ?? 0) << 8) |
        ((bytes[at + 2] ?? 0) << 16) |
        ((bytes[at + 3] ?? 0) << 24)) >>>
      0;
    for (let at = 0; at < bytes.length; at += 12)
      [k0, k1] = philox4x32([word(at), word(at + 4), word(at + 8), purposeText], k0, k1);
    [k0, k1] = philox4x32([bytes.length, 0, 0, purposeLength], k0, k1);
    return new PhiloxStream(k0, k1);
  }

  uint32(index = 0): number {
    return this.block(index)[0];
  }

  uniform(index = 0): number {
    const [high, low] = this.block(index);
    return ((high >>> 5) * 0x4000000 + (low >>> 6)) / 0x20000000000000;
  }

  integer(bound: number, index = 0): number {
    if (!Number.isSafeInteger(bound) || bound < 1)
      throw new RangeError(`integer(bound) needs bound >= 1, not ${bound}`);
    return Math.floor(this.uniform(index) * bound);
  }

  normal(index = 0): number {
    const block = this.block(Math.floor(index / 4));
    const pair = index % 4 < 2 ? 0 : 2;
    const angle = (2 * Math.PI * block[pair + 1]!) / 0x100000000;
    return radius(block[pair]!) * (index % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
  }

  normals(count: number): Float32Array {
    const values = new Float32Array(count);
    // Four draws a block: writes past the end of a typed array are ignored.
    for (let index = 0; index < count; index += 4) {
      const [a, b, c, d] = this.block(index / 4);
      const first = radius(a);
      const second = radius(c);
      const firstAngle = (2 * Math.PI * b) / 0x100000000;
      const secondAngle = (2 * Math.PI * d) / 0x100000000;
      values[index] = first * Math.cos(firstAngle);
      values[index + 1] = first * Math.sin(firstAngle);
      values[index + 2] = second * Math.cos(secondAngle);
      values[index + 3] = second * Math.sin(secondAngle);
    }
    return values;
  }

  permutation(length: number): Uint32Array {
    const order = Uint32Array.from({ length }, (_, index) => index);
    for (let last = length - 1; last > 0; last--) {
      const other = this.integer(last + 1, last);
      const held = order[last]!;
      order[last] = order[other]!;
      order[other] = held;
    }
    return order;
  }

  private block(index: number): [number, number, number, number] {
    return philox4x32(
      [index >>> 0, Math.floor(index / 0x100000000) >>> 0, 0, purposeDraw],
      this.key0,
      this.key1,
    );
  }
}

/**
 * The root stream of a seed.
 *
 * @throws RangeError if the seed is not a whole number from 0 to 2^53-1
 */
export function stream(seed: number): RandomStream {
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new RangeError(`a seed is a whole number from 0 to ${Number.MAX_SAFE_INTEGER}, not ${seed}`);
  return new PhiloxStream(seed >>> 0, Math.floor(seed / 0x100000000) >>> 0);
}
