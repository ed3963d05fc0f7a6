import type { DepthLaw } from "./depth-law.js";

/** Constants of low-value-prioritized sampling; the defaults are those of Apollo's released code. */
export interface LvpsConstants {
  /** The hyperbola's value at x = 1, in multiples of U. */
  readonly end: number;
  /** How far the hyperbola's value at x = xMin lies above M/U, in multiples of U. */
  readonly offset: number;
  /** The smallest x that is drawn. It cancels out of the distribution. */
  readonly xMin: number;
}

/** `get_curr_apollo_info` of the released code. */
export const lvpsDefaults: LvpsConstants = { end: 0.6, offset: 0.4, xMin: 1e-6 };

/**
 * P(depth ≥ k) of low-value-prioritized sampling (LVPS; Apollo, AAAI 2024, §"Low-Value-Prioritized Probability
 * Sampling"), for U unique layers and at most M executed ones.
 *
 * The code draws x ~ Uniform(xMin, 1) and takes y = m/(x + n), a hyperbola with y(xMin) = b = M/U + offset and
 * y(1) = e = end, clamps y to [1, M/U] and executes floor(y·U) layers. 1/y is linear in x, so it is uniform between 1/b
 * and 1/e, and for U < k ≤ M
 *
 *   P(depth ≥ k) = (U/k − 1/b) / (1/e − 1/b).
 */
export function lvpsTail(
  k: number,
  uniqueLayers: number,
  maxDepth: number,
  { end, offset }: LvpsConstants = lvpsDefaults,
): number {
  if (k <= uniqueLayers) return 1;
  if (k > maxDepth) return 0;
  // With b = (M + offset·U)/U, multiplied out by b·k·e so that each of M, U, k enters as the whole number it is.
  const start = maxDepth + offset * uniqueLayers;
  const tail = (end * (start - k)) / (k * (start / uniqueLayers - end));
  return Math.min(1, Math.max(0, tail));
}

/** {@link lvpsTail} as the law of a sampler. */
export function lvpsLaw(constants: LvpsConstants = lvpsDefaults): DepthLaw {
  return (k, uniqueLayers, maxDepth) => lvpsTail(k, uniqueLayers, maxDepth, constants);
}
