import { UsageError } from "@espalier/core";
import { firstCrossing, lossAtFlops } from "./crossing.js";
import { whyIncomparable } from "./loss-measure.js";
import type { RunSummary } from "./run-summary.js";

/** One run beside the baseline. Keys are the contract of `espalier compare --json`. */
export interface ComparedRun {
  readonly name: string;
  readonly seed: number;
  readonly finalEvalLoss: number;
  readonly flops: number;
  readonly seconds: number;
  /** FLOPs to the baseline's final evaluation loss; null where it is not reached. */
  readonly flopsToBaseline: number | null;
  /** 1 − ours / baseline's FLOPs, both to the baseline's final evaluation loss. */
  readonly flopsSaving: number | null;
  /** FLOPs that training the run's source took; 0 without one, null where the source does not say. */
  readonly sourceFlops: number | null;
  /** `flopsSaving` with the FLOPs of the sources counted on both sides. */
  readonly flopsSavingWithSource: number | null;
  /** The same of training seconds. */
  readonly secondsSaving: number | null;
  /** This run's and the baseline's evaluation loss where the cheaper of the two ends. */
  readonly atEqualFlops: {
    readonly flops: number;
    readonly loss: number;
    readonly baselineLoss: number;
  } | null;
  readonly complete: boolean;
  /**
   * Why its losses cannot be set against the baseline's, with both values; null where they can. Where they cannot, what
   * compares them is null: `flopsToBaseline`, the savings and `atEqualFlops`.
   */
  readonly notComparable: string | null;
}

/** Runs beside a baseline. */
export interface Comparison {
  /** The baseline's name. */
  readonly baseline: string;
  readonly baselineSeed: number;
  /** Its place in `runs`: names and seeds may be those of other runs, too. */
  readonly baselineIndex: number;
  readonly runs: readonly ComparedRun[];
}

/**
 * Compares runs with one of them at equal loss and at equal FLOPs.
 *
 * @param baseline index of the baseline in `runs`
 * @throws UsageError for fewer than one run
 */
export function compareRuns(runs: readonly RunSummary[], baseline = 0): Comparison {
  const reference = runs[baseline];
  if (!reference) throw new UsageError("ESPALIER_COMPARE_EMPTY", "compare needs at least one run");
  const target = reference.evaluations.at(-1)!.loss;
  const referenceCrossing = firstCrossing(reference.evaluations, target)!;
  return {
    baseline: reference.name,
    baselineSeed: reference.seed,
    baselineIndex: baseline,
    runs: runs.map((run) => {
      const notComparable = whyIncomparable(run.measure, reference.measure);
      const crossing = notComparable === null ? firstCrossing(run.evaluations, target) : null;
      return {
        name: run.name,
        seed: run.seed,
        finalEvalLoss: run.evaluations.at(-1)!.loss,
        flops: run.flops,
        seconds: run.seconds,
        flopsToBaseline: crossing?.flops ?? null,
        sourceFlops: run.sourceFlops,
        flopsSavingWithSource:
          crossing && run.sourceFlops !== null && reference.sourceFlops !== null
            ? 1 - (crossing.flops + run.sourceFlops) / (referenceCrossing.flops + reference.sourceFlops)
            : null,
        flopsSaving: crossing ? 1 - crossing.flops / referenceCrossing.flops : null,
        secondsSaving: crossing ? 1 - crossing.seconds / referenceCrossing.seconds : null,
        atEqualFlops: notComparable === null ? equalFlops(run, reference) : null,
        complete: run.complete,
        notComparable,
      };
    }),
  };
}

function equalFlops(run: RunSummary, reference: RunSummary): ComparedRun["atEqualFlops"] {
  const flops = Math.min(run.evaluations.at(-1)!.flops, reference.evaluations.at(-1)!.flops);
  const loss = lossAtFlops(run.evaluations, flops);
  const baselineLoss = lossAtFlops(reference.evaluations, flops);
  return loss === null || baselineLoss === null ? null : { flops, loss, baselineLoss };
}
