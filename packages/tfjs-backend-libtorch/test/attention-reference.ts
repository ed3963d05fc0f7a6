/** One call of packed attention, in double precision. */
export interface AttentionProblem {
  readonly batch: number;
  readonly heads: number;
  readonly sequence: number;
  readonly channels: number;
  readonly causal: boolean;
  readonly scale: number;
  /** `[batch, seq]`, added to the scores; or null. */
  readonly mask: ArrayLike<number> | null;
  /** What each probability is multiplied with, `[batch, heads, seq, seq]`; null without dropout. */
  readonly keep: ArrayLike<number> | null;
}

/**
 * Attention and its gradient by their definitions, in double precision, one head after the other.
 *
 * @param packed `[batch · seq, 3 · heads · channels]`
 * @param dy `[batch · seq, heads · channels]`
 */
export function attentionReference(
  problem: AttentionProblem,
  packed: ArrayLike<number>,
  dy: ArrayLike<number>,
): { y: Float64Array; dpacked: Float64Array; logsumexp: Float64Array } {
  const { batch, heads, sequence, channels } = problem;
  const width = heads * channels;
  const y = new Float64Array(batch * sequence * width);
  const dpacked = new Float64Array(3 * y.length);
  const logsumexp = new Float64Array(batch * heads * sequence);
  for (let row = 0; row < batch; row++) {
    for (let head = 0; head < heads; head++) {
      const group = row * heads + head;
      const at = (part: number, position: number) =>
        (row * sequence + position) * 3 * width + part * width + head * channels;
      const out = (position: number) => (row * sequence + position) * width + head * channels;
      for (let query = 0; query < sequence; query++) {
        const visible = problem.causal ? query + 1 : sequence;
        const scores = new Float64Array(visible);
        for (let key = 0; key < visible; key++) {
          let product = 0;
          for (let i = 0; i < channels; i++) product += packed[at(0, query) + i]! * packed[at(1, key) + i]!;
          const added = problem.mask?.[row * sequence + key] ?? 0;
          // The sum is float32 in every implementation, where −10⁹ plus a score is −10⁹ for each of them.
          scores[key] = added === 0 ? product * problem.scale : Math.fround(product * problem.scale + added);
        }
        const largest = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
        const total = scores.reduce((sum, score) => sum + Math.exp(score - largest), 0);
        logsumexp[group * sequence + query] = largest + Math.log(total);
        let inner = 0;
        const dProbability = new Float64Array(visible);
        for (let key = 0; key < visible; key++) {
          const probability = Math.exp(scores[key]! - largest) / total;
          const keep = problem.keep?.[(group * sequence + query) * sequence + key] ?? 1;
          for (let i = 0; i < channels; i++) {
            const value = packed[at(2, key) + i]!;
            const gradient = dy[out(query) + i]!;
            y[out(query) + i]! += probability * keep * value;
            dpacked[at(2, key) + i]! += probability * keep * gradient;
            dProbability[key]! += keep * gradient * value;
          }
          inner += probability * dProbability[key]!;
        }
        for (let key = 0; key < visible; key++) {
          const probability = Math.exp(scores[key]! - largest) / total;
          const dScore = probability * (dProbability[key]! - inner) * problem.scale;
          for (let i = 0; i < channels; i++) {
            dpacked[at(0, query) + i]! += dScore * packed[at(1, key) + i]!;
            dpacked[at(1, key) + i]! += dScore * packed[at(0, query) + i]!;
          }
        }
      }
    }
  }
  return { y, dpacked, logsumexp };
}
