import type { DepthLaw } from "./depth-law.js";

/** Every depth from U to M alike (`uniform` in the released code: `random.choice`). */
export const uniformLaw: DepthLaw = (k, uniqueLayers, maxDepth) => {
  if (k <= uniqueLayers) return 1;
  return k > maxDepth ? 0 : (maxDepth - k + 1) / (maxDepth - uniqueLayers + 1);
};

/** Constants of the sigmoid sampler; the defaults are those of the released code. */
export interface SigmoidConstants {
  readonly end: number;
  readonly offset: number;
  readonly xMin: number;
  /** How steeply the depth falls around the middle. */
  readonly steepness: number;
  /** The x at which y is half-way between its ends. */
  readonly middle: number;
}

/** `get_curr_apollo_info` of the released code, its `sigmoid` branch. */
export const sigmoidDefaults: SigmoidConstants = {
  end: 0.6,
  offset: 0.4,
  xMin: 1e-6,
  steepness: 20,
  middle: 0.5,
};

/**
 * Depths from y = (b − e)/(1 + exp(steepness·(x − middle))) + e with x ~ Uniform(xMin, 1), b = M/U + offset, e = end,
 * clamped and truncated as in LVPS. y falls with x, so P(depth ≥ k) = P(x ≤ x_k) with y(x_k) = k/U:
 * x_k = middle + ln((b − k/U)/(k/U − e)) / steepness.
 */
export function sigmoidLaw(constants: SigmoidConstants = sigmoidDefaults): DepthLaw {
  const { end, offset, xMin, steepness, middle } = constants;
  return (k, uniqueLayers, maxDepth) => {
    if (k <= uniqueLayers) return 1;
    if (k > maxDepth) return 0;
    const above = maxDepth / uniqueLayers + offset - k / uniqueLayers;
    const below = k / uniqueLayers - end;
    if (below <= 0) return 1;
    if (above <= 0) return 0;
    const x = middle + Math.log(above / below) / steepness;
    return Math.min(1, Math.max(0, (x - xMin) / (1 - xMin)));
  };
}
