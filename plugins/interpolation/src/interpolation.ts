/**
 * Interpolated layer map: executed layer i of d uses unique layer floor(i·U/d), in integer arithmetic (Apollo, AAAI
 * 2024, "interpolation"; `extend` in its code, whose floating-point form is off by one for some pairs).
 *
 * Where U divides U', sharing composes: floor(floor(i·U'/d)·U/U') = floor(i·U/d) for every d ≥ U'. Growth from U to U'
 * by this map therefore changes no output at any executed depth from U' on.
 *
 * @throws RangeError unless both are whole numbers of at least 1
 */
export function interpolatedLayers(uniqueLayers: number, executedDepth: number): number[] {
  checkCounts(uniqueLayers, executedDepth);
  return Array.from({ length: executedDepth }, (_, layer) =>
    floorOfQuotient(layer * uniqueLayers, executedDepth),
  );
}

/**
 * Linear interpolation of layers by position, first and last layer fixed: target layer i of T lies at
 * p = i·(U − 1)/(T − 1) between the source layers j = floor(p) and j + 1, and is (1 − f)·W_j + f·W_{j+1} with f = p − j.
 * With one target layer, or one source layer, that is source layer 0.
 *
 * @returns for each target layer, its source layers and their weights, which sum to 1
 * @throws RangeError unless both are whole numbers of at least 1
 */
export function blendedLayers(
  sourceLayers: number,
  targetLayers: number,
): (readonly [layer: number, weight: number])[][] {
  checkCounts(sourceLayers, targetLayers);
  const gaps = targetLayers - 1;
  return Array.from({ length: targetLayers }, (_, layer) => {
    if (gaps === 0) return [[0, 1] as const];
    const position = layer * (sourceLayers - 1);
    const lower = floorOfQuotient(position, gaps);
    const remainder = position - lower * gaps;
    if (remainder === 0) return [[lower, 1] as const];
    return [[lower, (gaps - remainder) / gaps] as const, [lower + 1, remainder / gaps] as const];
  });
}

// Exact for whole numbers up to 2^53: the remainder is taken off before the division.
function floorOfQuotient(numerator: number, denominator: number): number {
  return (numerator - (numerator % denominator)) / denominator;
}

function checkCounts(...counts: readonly number[]): void {
  for (const count of counts)
    if (!Number.isSafeInteger(count) || count < 1)
      throw new RangeError(`a number of layers is a whole number of at least 1, not ${count}`);
}
