import type { Evaluation } from "./run-summary.js";

/** What a run had spent when it first reached a loss. */
export interface Crossing {
  readonly flops: number;
  readonly seconds: number;
}

/**
 * Where a run's evaluation loss first falls to a target, linear between evaluations. A first evaluation that is already
 * there counts as it stands, since what lies before it was not measured.
 *
 * @returns null if the target is not reached
 */
export function firstCrossing(evaluations: readonly Evaluation[], target: number): Crossing | null {
  let before: Evaluation | null = null;
  for (const here of evaluations) {
    if (here.loss <= target) {
      if (before === null) return { flops: here.flops, seconds: here.seconds };
      const share = (before.loss - target) / (before.loss - here.loss);
      return {
        flops: before.flops + share * (here.flops - before.flops),
        seconds: before.seconds + share * (here.seconds - before.seconds),
      };
    }
    before = here;
  }
  return null;
}

/** The evaluation loss at a number of FLOPs, linear between evaluations; null outside of what was measured. */
export function lossAtFlops(evaluations: readonly Evaluation[], flops: number): number | null {
  for (let index = 1; index < evaluations.length; index++) {
    const before = evaluations[index - 1]!;
    const here = evaluations[index]!;
    if (flops < before.flops || flops > here.flops) continue;
    if (here.flops === before.flops) return here.loss;
    return before.loss + ((flops - before.flops) / (here.flops - before.flops)) * (here.loss - before.loss);
  }
  const only = evaluations.length === 1 ? evaluations[0]! : null;
  return only && only.flops === flops ? only.loss : null;
}
