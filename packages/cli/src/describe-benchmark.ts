import type { Benchmark } from "./benchmark.js";
import { formatBytes, formatCount, formatFlops, formatShare } from "./format.js";

/** A benchmark as text. */
export function describeBenchmark(result: Benchmark): string {
  return [
    `${result.name} on ${result.backend} (${result.version}, ${result.device}, threads ${result.threads}, ${result.precision}), ${result.depth} layers`,
    `throughput   ${formatCount(result.tokensPerSecond)} tokens/s`,
    `step         ${(result.stepSeconds * 1000).toFixed(1)} ms, ${formatFlops(result.flopsPerStep / result.stepSeconds)}/s`,
    `growth       ${result.growthSeconds === null ? "none" : `${(result.growthSeconds * 1000).toFixed(1)} ms`}`,
    `peak memory  ${formatBytes(result.peakBytes)}`,
    `JavaScript   ${result.javascriptShare === null ? "not told apart by this engine" : `${formatShare(result.javascriptShare)} of a step`}`,
    `left alive   ${result.leakedTensors} tensors, ${formatBytes(result.leakedBytes)} after ${result.steps} steps`,
  ].join("\n");
}
