/** Apollo's stages for BERT-Base, as shares of the target depth and of the budget (2, 4 and 10 of 40 epochs). */
const officialStages = [
  { share: 1 / 12, at: 0 },
  { share: 1 / 4, at: 0.05 },
  { share: 1 / 2, at: 0.1 },
  { share: 1, at: 0.25 },
] as const;

/**
 * The official stages (1, 3, 6, 12 for a target of 12) for any target depth. From the target downwards each depth is the
 * divisor of the next deeper one that is nearest to its share of the target, if one lies within a factor of 3;
 * otherwise the share rounded down, and that one growth changes outputs. Stages that fall together start with the
 * earliest of them.
 */
export function apolloStages(targetDepth: number): { depths: number[]; at: number[] } {
  const depths: number[] = [];
  for (const { share } of [...officialStages].reverse()) {
    const wanted = share * targetDepth;
    const deeper = depths[0];
    depths.unshift(
      deeper === undefined ? targetDepth : (divisorNear(wanted, deeper) ?? Math.max(1, Math.floor(wanted))),
    );
  }
  const stages = officialStages
    .map(({ at }, index) => ({ depth: depths[index]!, at }))
    .filter((stage, index) => index === 0 || stage.depth > depths[index - 1]!);
  return { depths: stages.map((stage) => stage.depth), at: stages.map((stage) => stage.at) };
}

// Divisibility keeps growth exact, but a depth that is far from its share would be another schedule.
const reach = 3;

function divisorNear(wanted: number, whole: number): number | undefined {
  let nearest: number | undefined;
  for (let divisor = 1; divisor < whole; divisor++) {
    if (whole % divisor !== 0 || divisor > wanted * reach || divisor * reach < wanted) continue;
    if (nearest === undefined || Math.abs(divisor - wanted) < Math.abs(nearest - wanted)) nearest = divisor;
  }
  return nearest;
}
