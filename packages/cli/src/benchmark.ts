import { shapeOf, stream, UsageError } from "@espalier/core";
import {
  checkDefinition,
  createStrategy,
  type DefinitionInput,
  type Experiment,
  loadDefinition,
  parseOverride,
  plannedServices,
  planningStrategies,
  withPlaceAsync,
} from "@espalier/experiments";
import { type BenchmarkResult, benchmarkStep } from "@espalier/trainer";
import { resolveDefinition } from "./composition-root.js";
import { loadEngine } from "./run/engine.js";

/** What is timed where no definition is given. */
const standard: DefinitionInput = {
  name: "bench-bert-12x256",
  model: { family: "bert", depth: 12, hiddenSize: 256, attentionHeads: 4, dropout: 0 },
  data: { corpus: "sotu", tokenizer: { kind: "wordpiece", vocabSize: 8192 }, sequenceLength: 128 },
  training: { steps: 100, batchSize: 32 },
};

/** The experiment to time. */
export async function openBenchmark(
  file: string | undefined,
  overrides: readonly string[],
): Promise<Experiment> {
  if (file !== undefined) return resolveDefinition(await loadDefinition(file, overrides));
  const source = {
    file: "the standard benchmark",
    baseDirectory: process.cwd(),
    text: "",
    value: standard,
    locate: () => "the standard benchmark",
  };
  return resolveDefinition(checkDefinition(source, await Promise.all(overrides.map(parseOverride))));
}

/** How long it is timed. */
export interface BenchmarkRequest {
  /** Executed layers; default: the target's. */
  readonly depth?: number;
  /** Layers with weights of their own, each executed about as often; default: as many as are executed. */
  readonly unique?: number;
  readonly profile?: boolean;
  readonly steps: number;
  readonly warmup: number;
  note(text: string): void;
}

/** What `espalier bench --json` prints. */
export interface Benchmark extends BenchmarkResult {
  readonly name: string;
  readonly backend: string;
  readonly device: string;
  readonly threads: number;
  readonly version: string;
  readonly precision: string;
  /** Executed layers. */
  readonly depth: number;
  readonly uniqueLayers: number;
  readonly steps: number;
  /** FLOPs of an optimizer step. */
  readonly flopsPerStep: number;
}

/**
 * Times optimizer steps at the target shape.
 *
 * @throws UsageError for a depth that cannot be executed
 */
export async function benchmark(experiment: Experiment, request: BenchmarkRequest): Promise<Benchmark> {
  const { config, family, definition, choices, locate } = experiment;
  const depth = request.depth ?? config.depth;
  const { training, data } = definition;
  const { objective, expander, schedule } = planningStrategies(experiment);
  const services = plannedServices(experiment);
  const random = stream(definition.seed);
  const sharing = createStrategy(choices.sharing, services, locate);
  if (depth > config.depth)
    throw new UsageError(
      "ESPALIER_BENCH_DEPTH",
      `--depth ${depth} is deeper than the model, which has ${config.depth} layers`,
      { hint: "model.depth=N makes it deeper" },
    );
  const unique = request.unique ?? depth;
  if (unique > depth)
    throw new UsageError(
      "ESPALIER_BENCH_UNIQUE",
      `--unique ${unique} is more than the ${depth} layers that are executed`,
      { hint: "--depth N executes more" },
    );
  // Fewer layers than there are: a model of that depth, as an earlier stage of growth has it.
  const timed = { ...config, depth: unique };
  const stages = schedule.plan(experiment.budget, shapeOf(config));
  const last = stages === "adaptive" ? undefined : stages.at(-2)?.shape;
  const from =
    last && last.depth < unique ? last : { ...shapeOf(timed), depth: Math.max(1, Math.floor(unique / 2)) };
  const backend = await withPlaceAsync("backend", locate, () => loadEngine(definition, request.note));
  const result = await benchmarkStep({
    family,
    config: timed,
    layerMap: sharing(unique, depth, random.fork("layer-map")),
    objective,
    optimizer: createStrategy(choices.optimizer, services, locate),
    batchSize: training.batchSize,
    sequenceLength: data.sequenceLength,
    gradientAccumulation: training.gradientAccumulation,
    precision: training.precision,
    recompute: training.recompute,
    gradientClipNorm: training.gradientClipNorm === "none" ? null : training.gradientClipNorm,
    random,
    warmup: request.warmup,
    steps: request.steps,
    growth: unique === 1 ? null : { from, expander },
    profile: request.profile ?? false,
  });
  const cost = family.cost(timed, {
    batchSize: training.batchSize,
    sequenceLength: data.sequenceLength,
    executedLayers: depth,
    countedPositions: objective.countedPositions(training.batchSize, data.sequenceLength),
  });
  return {
    name: definition.name,
    backend: backend.name,
    device: backend.device,
    threads: backend.threads,
    version: backend.version,
    precision: training.precision,
    depth,
    uniqueLayers: unique,
    steps: request.steps,
    flopsPerStep: cost.trainingFlops * training.gradientAccumulation,
    ...result,
  };
}
