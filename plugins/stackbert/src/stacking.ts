/**
 * Stacked layer map: whole copies of the layers 0..U−1 on top of one another, and what is left over filled from the top
 * layers (StackBERT, ICML 2019, for doubling; the remainder as in Apollo's released code and bert2BERT).
 *
 * @example
 * stackedLayers(3, 8) // [0,1,2, 0,1,2, 1,2]
 * @throws RangeError unless both are whole numbers of at least 1
 */
export function stackedLayers(uniqueLayers: number, executedDepth: number): number[] {
  for (const count of [uniqueLayers, executedDepth])
    if (!Number.isSafeInteger(count) || count < 1)
      throw new RangeError(`a number of layers is a whole number of at least 1, not ${count}`);
  const remainder = executedDepth % uniqueLayers;
  const whole = executedDepth - remainder;
  return Array.from({ length: executedDepth }, (_, layer) =>
    layer < whole ? layer % uniqueLayers : uniqueLayers - remainder + (layer - whole),
  );
}

/**
 * The depths of repeated doubling that ends at the target: a quarter, a half, the whole, rounded up, so that no growth
 * more than doubles. Depths that fall together appear once.
 *
 * @returns stages with the share of the budget at which each starts (StackBERT's BERT-Base run: 3 layers for 50k of
 * 400k updates, 6 for 70k, 12 for the rest)
 */
export function doublingStages(targetDepth: number): { depths: number[]; at: number[] } {
  const half = Math.ceil(targetDepth / 2);
  const stages = [
    { depth: Math.ceil(half / 2), at: 0 },
    { depth: half, at: 0.125 },
    { depth: targetDepth, at: 0.3 },
  ].filter((stage, index, all) => index === 0 || stage.depth > all[index - 1]!.depth);
  return { depths: stages.map((stage) => stage.depth), at: stages.map((stage) => stage.at) };
}
