import type { Benchmark } from "./benchmark.js";
import { describeProfile } from "./describe-profile.js";
import { formatBytes, formatCount, formatFlops, formatShare } from "./format.js";

/** A benchmark as text. */
export function describeBenchmark(result: Benchmark): string {
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
    ...(result.profile === null ? [] : [describeProfile(result.profile)]),
  ].join("\n");
}
