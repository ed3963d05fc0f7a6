import { type DepthInput, type DepthSampler, UsageError } from "@espalier/core";
import { type DepthLaw, depthDistribution, depthOfDraw } from "./depth-law.js";

/** Draws a depth from a law over U..M, anew in every micro-step. */
export function samplerOf(law: DepthLaw): DepthSampler {
  return {
    init: () => null,
    next(memory, { current, target }, random) {
      const executedLayers = depthOfDraw(random.uniform(), law, current.depth, target.depth);
      return [{ executedLayers, update: "all" }, memory];
    },
    distribution: (_memory, { current, target }) => depthDistribution(law, current.depth, target.depth),
  };
}

function certain(depthOf: (input: DepthInput) => number): DepthSampler {
  return {
    init: () => null,
    next: (memory, input) => [{ executedLayers: depthOf(input), update: "all" }, memory],
    distribution: (_memory, input) => new Map([[depthOf(input), 1]]),
  };
}

/** Always the target depth, through shared layers (`constant_high` in the released code). */
export function targetDepth(): DepthSampler {
  return certain(({ current, target }) => Math.max(current.depth, target.depth));
}

/** Always the unique layers, each once: no sharing. */
export function uniqueDepth(): DepthSampler {
  return certain(({ current }) => current.depth);
}

/**
 * Always the given depth; the unique layers once there are more of them.
 *
 * @throws UsageError ESPALIER_SAMPLER_DEPTH if it is deeper than the target
 */
export function fixedDepth(depth: number, targetDepth: number): DepthSampler {
  if (depth > targetDepth)
    throw new UsageError(
      "ESPALIER_SAMPLER_DEPTH",
      `growth.sampler.depth (${depth}) is deeper than the target depth (model.depth = ${targetDepth})`,
      { key: "growth.sampler.depth" },
    );
  return certain(({ current }) => Math.max(depth, current.depth));
}
