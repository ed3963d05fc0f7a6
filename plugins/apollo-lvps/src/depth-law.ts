/** P(executed depth ≥ k) for U unique layers and at most M executed ones: 1 up to U, 0 above M, never rising. */
export type DepthLaw = (k: number, uniqueLayers: number, maxDepth: number) => number;

/**
 * The depth that a draw gives: the largest k with draw < P(depth ≥ k). Small draws give deep networks, as the hyperbola
 * of the released code does. Comparing with the law itself, instead of truncating a floating-point y·U, makes samples
 * follow the distribution exactly and reaches M where truncation misses it (U = 11, M = 15).
 *
 * @param draw uniform in [0, 1)
 */
export function depthOfDraw(draw: number, law: DepthLaw, uniqueLayers: number, maxDepth: number): number {
  let depth = Math.max(uniqueLayers, maxDepth);
  while (depth > uniqueLayers && draw >= law(depth, uniqueLayers, maxDepth)) depth--;
  return depth;
}

/** P(executed depth = d) for every d that can be drawn. */
export function depthDistribution(
  law: DepthLaw,
  uniqueLayers: number,
  maxDepth: number,
): Map<number, number> {
  const distribution = new Map<number, number>();
  for (let depth = uniqueLayers; depth <= Math.max(uniqueLayers, maxDepth); depth++) {
    const deeper = depth >= maxDepth ? 0 : law(depth + 1, uniqueLayers, maxDepth);
    const probability = law(depth, uniqueLayers, maxDepth) - deeper;
    if (probability > 0) distribution.set(depth, probability);
  }
  return distribution;
}

/**
 * The draw that belongs to the x of the released code, x ~ Uniform(xMin, 1).
 */
export function drawOfX(x: number, xMin: number): number {
  return (x - xMin) / (1 - xMin);
}
