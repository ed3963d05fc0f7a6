import type { ModelFamily, StepLoad } from "./model-family.js";
import type { ModelConfig } from "./shape.js";
import type { StepDepth } from "./strategy.js";

/**
 * FLOPs of a micro-step as it is executed: backward costs twice the forward pass of the part that it goes through, which
 * is the top layers only where only they are trained.
 */
export function flopsOfStep(
  family: Pick<ModelFamily, "cost">,
  config: ModelConfig,
  load: StepLoad,
  update: StepDepth["update"],
): number {
  const full = family.cost(config, load);
  if (update === "all") return full.trainingFlops;
  const executedLayers = Math.min(update.topLayers, load.executedLayers);
  const trained = family.cost(config, { ...load, executedLayers });
  return full.forwardFlops + trained.trainingFlops - trained.forwardFlops;
}
