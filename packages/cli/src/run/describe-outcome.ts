import { formatCount, formatFlops, formatSeconds } from "../format.js";
import type { RunOutcome } from "./train-experiment.js";

/** How a run ended, and where its result is. */
export function describeOutcome(outcome: RunOutcome): string {
  if (outcome.interrupted)
    return [
      `interrupted after step ${outcome.steps}${outcome.checkpoint === null ? "" : `, checkpoint ${outcome.checkpoint}`}`,
      "continue it with the same command and --resume",
    ].join("\n");
  return [
    `${outcome.steps} steps in ${formatSeconds(outcome.seconds)} on ${outcome.backend} (${formatCount(outcome.tokensPerSecond)} tokens/s), ${formatFlops(outcome.flops)}`,
    ...(outcome.sourceFlops === 0
      ? []
      : [
          `its source took ${outcome.sourceFlops === null ? "FLOPs that it does not tell" : formatFlops(outcome.sourceFlops)}, not counted above`,
        ]),
    `evaluation loss ${lossOf(outcome.finalEvalLoss)}, last training loss ${lossOf(outcome.finalTrainLoss)}`,
    `run folder  ${outcome.out}`,
    `checkpoint  ${outcome.checkpoint ?? "none"}`,
  ].join("\n");
}

function lossOf(loss: number | null): string {
  return loss === null ? "–" : loss.toFixed(4);
}
