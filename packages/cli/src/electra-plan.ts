import type { Experiment, Plan } from "@espalier/experiments";
import { electraFlops } from "@espalier/models";

/** A plan's FLOPs as ELECTRA and LiGO count them. */
export interface ElectraPlan {
  readonly totalFlops: number;
  readonly fullDepthFlops: number;
  readonly predictedSaving: number;
}

/**
 * The plan's expected FLOPs in the convention of ELECTRA's counter, in which LiGO's figures are: element-wise work counts,
 * the look-up is dense, backward costs as much as forward. Journals keep to the matrix products.
 */
export function electraPlan(plan: Plan, { config, definition }: Experiment): ElectraPlan {
  const sequences = definition.training.batchSize * definition.training.gradientAccumulation;
  const flops = (stage: Partial<typeof config>, layers: number): number => {
    const { block, inputEmbedding, output } = electraFlops(
      { ...config, ...stage },
      definition.data.sequenceLength,
    );
    return 2 * sequences * (layers * block + inputEmbedding + output);
  };
  const totalFlops = plan.stages.reduce(
    (sum, { shape, steps, expectedDepth }) => sum + steps * flops(shape, expectedDepth),
    0,
  );
  const fullDepthFlops = plan.steps * flops({}, config.depth);
  return { totalFlops, fullDepthFlops, predictedSaving: 1 - totalFlops / fullDepthFlops };
}
