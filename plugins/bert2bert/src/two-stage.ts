import { type DepthInput, type DepthSampler, type StepDepth, UsageError } from "@espalier/core";

/** Options of the sampler `two-stage`. */
export interface TwoStageOptions {
  /** `l_b`: layers by which sub-models differ, and top layers that a step of the first stage updates. */
  readonly subModelLayers: number;
  /** Share of the budget that the first stage takes: `E_b` of the paper's 40 epochs. */
  readonly firstStage: number;
}

/**
 * Two-stage training (bert2BERT, algorithm 1). In the first stage each micro-step draws a sub-model of the bottom
 * l_b, 2·l_b, …, L layers, all alike, and updates its top l_b layers and the head; in the second the whole model is trained.
 *
 * @throws UsageError ESPALIER_SAMPLER_DEPTH if `l_b` is more than the target has
 */
export function twoStage({ subModelLayers, firstStage }: TwoStageOptions, targetDepth: number): DepthSampler {
  if (subModelLayers > targetDepth)
    throw new UsageError(
      "ESPALIER_SAMPLER_DEPTH",
      `growth.sampler.subModelLayers (${subModelLayers}) is more than the layers of the model (model.depth = ${targetDepth})`,
      { key: "growth.sampler.subModelLayers" },
    );
  const isFirst = ({ progress }: DepthInput): boolean => progress.fraction < firstStage;
  const depths = ({ current }: DepthInput): number[] => subModels(subModelLayers, current.depth);
  const updateOf = (input: DepthInput, executedLayers: number): StepDepth["update"] =>
    isFirst(input) ? { topLayers: Math.min(subModelLayers, executedLayers) } : "all";
  return {
    init: () => null,
    next(memory, input, random) {
      const choice = depths(input);
      const executedLayers = isFirst(input) ? choice[random.integer(choice.length)]! : input.current.depth;
      return [{ executedLayers, update: updateOf(input, executedLayers) }, memory];
    },
    distribution(_memory, input) {
      if (!isFirst(input)) return new Map([[input.current.depth, 1]]);
      const choice = depths(input);
      return new Map(choice.map((depth) => [depth, 1 / choice.length]));
    },
    update: (_memory, input, executedLayers) => updateOf(input, executedLayers),
  };
}

/** Depths of the sub-models: multiples of `l_b` below the whole depth, and the whole depth. */
export function subModels(subModelLayers: number, depth: number): number[] {
  const depths: number[] = [];
  for (let layers = subModelLayers; layers < depth; layers += subModelLayers) depths.push(layers);
  return [...depths, depth];
}
