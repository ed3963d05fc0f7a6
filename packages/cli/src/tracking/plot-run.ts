import { join } from "node:path";
import { writeTextDurably } from "@espalier/checkpoints";
import { EspalierError } from "@espalier/core";
import { loadRun, plotLossAgainstFlops } from "@espalier/reports";
import { plotFile } from "./describe-run.js";

/** Draws a run's evaluation loss against its FLOPs into its folder; a run that was never evaluated has no plot. */
export async function plotRun(folder: string): Promise<void> {
  try {
    const run = await loadRun(folder);
    await writeTextDurably(join(folder, plotFile), await plotLossAgainstFlops([run], run.name));
  } catch (error) {
    // Not evaluated yet, or a folder that cannot be written: the run is delivered all the same.
    if (!(error instanceof EspalierError)) throw error;
  }
}
