/**
 * Pearson's χ² of counts against a distribution. Cells in which fewer than five draws are expected are pooled, as the
 * approximation needs.
 *
 * @param counts draws per value; a value outside of the distribution makes χ² infinite
 * @returns χ², and the degrees of freedom (0 where everything fell into one cell)
 */
export function chiSquare(
  counts: ReadonlyMap<number, number>,
  distribution: ReadonlyMap<number, number>,
): { readonly statistic: number; readonly degreesOfFreedom: number } {
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  for (const [value, count] of counts)
    if (count > 0 && !((distribution.get(value) ?? 0) > 0))
      return { statistic: Number.POSITIVE_INFINITY, degreesOfFreedom: 0 };
  const cells = pooled(
    [...distribution]
      .filter(([, probability]) => probability > 0)
      .map(([value, probability]) => ({ expected: probability * total, observed: counts.get(value) ?? 0 })),
  );
  const statistic = cells.reduce(
    (sum, { expected, observed }) => sum + (observed - expected) ** 2 / expected,
    0,
  );
  return { statistic, degreesOfFreedom: cells.length - 1 };
}

interface Cell {
  readonly expected: number;
  readonly observed: number;
}

function pooled(cells: readonly Cell[]): Cell[] {
  const ascending = [...cells].sort((a, b) => a.expected - b.expected);
  const result: Cell[] = [];
  let pool: Cell = { expected: 0, observed: 0 };
  for (const cell of ascending) {
    pool = { expected: pool.expected + cell.expected, observed: pool.observed + cell.observed };
    if (pool.expected < 5) continue;
    result.push(pool);
    pool = { expected: 0, observed: 0 };
  }
  const last = result.pop();
  // What is left over is less than five draws: it joins the last cell.
  const rest = {
    expected: pool.expected + (last?.expected ?? 0),
    observed: pool.observed + (last?.observed ?? 0),
  };
  return [...result, rest];
}

/**
 * The value that χ² exceeds with a probability of 1e-5 (Wilson and Hilferty's approximation).
 *
 * @param degreesOfFreedom at least 1
 */
export function chiSquareLimit(degreesOfFreedom: number): number {
  const z = 4.2649;
  const spread = 2 / (9 * degreesOfFreedom);
  return degreesOfFreedom * (1 - spread + z * Math.sqrt(spread)) ** 3;
}
