import type { Experiment } from "@espalier/experiments";
import { type Benchmark, type BenchmarkRequest, benchmark } from "./benchmark.js";
import { type DepthTime, fitLayerTime, type LayerTime } from "./layer-time.js";

/** A benchmark of the deepest step, and how the time grows up to it. */
export interface DepthsBenchmark extends Benchmark {
  readonly depths: LayerTime;
}

/** Times a step at every depth from one layer to the model's. */
export async function benchmarkDepths(
  experiment: Experiment,
  request: Omit<BenchmarkRequest, "depth" | "unique" | "profile">,
): Promise<DepthsBenchmark> {
  const times: DepthTime[] = [];
  for (let depth = 1; ; depth++) {
    const result = await benchmark(experiment, { ...request, depth });
    times.push({ depth, stepSeconds: result.stepSeconds });
    if (depth === experiment.config.depth) return { ...result, depths: fitLayerTime(times) };
  }
}
