import type { Benchmark } from "./benchmark.js";
import type { DepthsBenchmark } from "./benchmark-depths.js";
import { describeProfile } from "./describe-profile.js";
import { formatBytes, formatCount, formatFlops, formatShare } from "./format.js";
import type { LayerTime } from "./layer-time.js";

/** A benchmark as text. */
export function describeBenchmark(result: Benchmark | DepthsBenchmark): string {
  const { growthSeconds, stepSeconds } = result;
  return [
    `${result.name} on ${result.backend} (${result.version}, ${result.device}, threads ${result.threads}, ${result.precision}), ${result.depth} layers${result.uniqueLayers === result.depth ? "" : ` of ${result.uniqueLayers} unique`}`,
    `throughput   ${formatCount(result.tokensPerSecond)} tokens/s`,
    `step         ${(result.stepSeconds * 1000).toFixed(1)} ms, ${formatFlops(result.flopsPerStep / result.stepSeconds)}/s`,
    `batch        ${(result.batchSeconds * 1000).toFixed(1)} ms to prepare, beside the step`,
    `growth       ${growthSeconds === null ? "none" : `${(growthSeconds * 1000).toFixed(1)} ms, ${(growthSeconds / stepSeconds).toFixed(2)} of a step`}`,
    `peak memory  ${formatBytes(result.peakBytes)}`,
    `JavaScript   ${result.javascriptShare === null ? "not told apart by this engine" : `${formatShare(result.javascriptShare)} of a step`}`,
    `page faults  ${formatCount(result.pageFaults)} a step`,
    `left alive   ${result.leakedTensors} tensors, ${formatBytes(result.leakedBytes)} after ${result.steps} steps`,
    ...("depths" in result ? describeDepths(result.depths) : []),
    ...(result.profile === null ? [] : [describeProfile(result.profile)]),
  ].join("\n");
}

function describeDepths({ steps, fixedSeconds, secondsPerLayer, largestDeviation }: LayerTime): string[] {
  const ms = (seconds: number) => `${(seconds * 1000).toFixed(1)} ms`;
  return [
    ...steps.map(
      ({ depth, stepSeconds, layerSeconds }) =>
        `  ${String(depth).padStart(3)} layers   ${ms(stepSeconds)}, ${ms(layerSeconds)} a layer`,
    ),
    ...(fixedSeconds === null || secondsPerLayer === null || largestDeviation === null
      ? []
      : [
          `a layer      ${ms(secondsPerLayer)} beside ${ms(fixedSeconds)} of the rest; at no depth further off than ${formatShare(largestDeviation)}`,
        ]),
  ];
}
