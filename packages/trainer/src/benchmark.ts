import type {
  ComputeOptions,
  Expander,
  LayerMap,
  ModelConfig,
  ModelFamily,
  ModelShape,
  Objective,
  Optimizer,
  PreparedBatch,
  RandomStream,
} from "@espalier/core";
import { applyGrowthMap, disposeParameters, initializeParameters, weightsOf } from "@espalier/growth";
import * as tf from "@tensorflow/tfjs";
import { applyGradients } from "./apply-gradients.js";
import { configAt } from "./growth-plan.js";
import { differentiate, disposeBatch, type Gradients, toDevice, trainedParameters } from "./micro-step.js";
import { decayOf } from "./parameters.js";
import { checkPrecision } from "./precision.js";
import { engineProfiler } from "./profile/engine-profiler.js";
import { profileKernels } from "./profile/kernel-profile.js";
import { profileStep, type StepProfile } from "./profile/step-profile.js";

/** What is timed. */
export interface BenchmarkSetup extends ComputeOptions {
  readonly family: ModelFamily;
  /** The model with its unique layers. */
  readonly config: ModelConfig;
  /** Executed layers of a step, and the unique layer that each uses. */
  readonly layerMap: LayerMap;
  readonly objective: Objective;
  readonly optimizer: Optimizer;
  readonly batchSize: number;
  readonly sequenceLength: number;
  readonly gradientAccumulation: number;
  readonly gradientClipNorm: number | null;
  readonly random: RandomStream;
  /** Optimizer steps that are not timed. */
  readonly warmup: number;
  /** Optimizer steps that are. */
  readonly steps: number;
  /** The growth to time: into `config`, from this shape. Null times none. */
  readonly growth: { readonly from: ModelShape; readonly expander: Expander } | null;
  /** Whether some more steps are watched operation by operation, after those that are timed. */
  readonly profile: boolean;
  readonly onStep?: (step: number, seconds: number) => void;
}

/** What was measured. */
export interface BenchmarkResult {
  readonly tokensPerSecond: number;
  /** Median of the timed optimizer steps, the batch prepared before. */
  readonly stepSeconds: number;
  /** Median of what preparing a step's batch takes, which training does beside the steps. */
  readonly batchSeconds: number;
  /** Seconds of one growth with moments, the device's time included; null if none was timed. */
  readonly growthSeconds: number | null;
  /** Largest resident memory of the process so far, in bytes; on a GPU, the most that its allocator gave out. */
  readonly peakBytes: number;
  /** Pages that the system had to map in a step, since they were touched for the first time. */
  readonly pageFaults: number;
  /**
   * Share of a step's time that is spent in JavaScript between kernels; null where the engine does not tell its own
   * time apart from the wall's.
   */
  readonly javascriptShare: number | null;
  /** Tensors that the timed steps left alive beside the parameters: 0, or there is a leak. */
  readonly leakedTensors: number;
  /** Bytes that the timed steps left alive: the engine's own count where it has one, else TensorFlow.js's. */
  readonly leakedBytes: number;
  /** Where the time goes; null unless it was asked for. */
  readonly profile: StepProfile | null;
}

/** Steps whose times a profile averages. */
const PROFILED_STEPS = 5;

/** Times optimizer steps on random tokens; every step waits for the device, so that the times are the device's. */
export async function benchmarkStep(setup: BenchmarkSetup): Promise<BenchmarkResult> {
  const { family, config, layerMap, batchSize, sequenceLength, gradientAccumulation, random } = setup;
  checkPrecision(setup.precision ?? "fp32");
  let parameters = initializeParameters(
    family,
    setup.growth === null ? config : configAt(config, setup.growth.from),
    random,
  );
  const profiler = engineProfiler();
  const phase = (name: string): void => profiler?.phase(name);
  const watched = inPhases(family, phase);
  const trained = trainedParameters(family.layout(config.depth), layerMap, "all");
  const decays = decayOf(family, config);
  try {
    let growthSeconds: number | null = null;
    if (setup.growth !== null) {
      const { from, expander } = setup.growth;
      const map = expander.plan(from, config, family, random.fork("growth").fork(1));
      const began = performance.now();
      parameters = applyGrowthMap(map, parameters, { config, family, random });
      await [...parameters.values()].at(-1)?.stepCount.data();
      growthSeconds = (performance.now() - began) / 1000;
    }
    const times: number[] = [];
    const preparations: number[] = [];
    let before = held();
    for (let step = 0; step < setup.warmup + setup.steps; step++) {
      if (step === setup.warmup) before = held();
      const preparing = performance.now();
      const batches = prepareStep(step);
      const began = performance.now();
      await finish(startStep(batches, step));
      const seconds = (performance.now() - began) / 1000;
      if (step < setup.warmup) continue;
      times.push(seconds);
      preparations.push((began - preparing) / 1000);
      setup.onStep?.(step - setup.warmup + 1, seconds);
    }
    const after = held();
    const stepSeconds = median(times);
    // Every step draws another batch, also while it is watched.
    let next = setup.warmup + setup.steps;
    const batches = prepareStep(next);
    const runStep = (): void => tf.dispose(startStep(batches, next++));
    const profile = !setup.profile
      ? null
      : profiler === null
        ? await profileKernels(runStep)
        : profileStep(profiler, { steps: Math.min(setup.steps, PROFILED_STEPS), stepSeconds, runStep });
    return {
      tokensPerSecond: (batchSize * sequenceLength * gradientAccumulation) / stepSeconds,
      stepSeconds,
      batchSeconds: median(preparations),
      growthSeconds,
      peakBytes: after.devicePeak ?? process.resourceUsage().maxRSS * 1024,
      pageFaults: (after.pageFaults - before.pageFaults) / setup.steps,
      javascriptShare: profile?.javascript.share ?? (await shareOfJavascript(runStep)),
      leakedTensors: after.tensors - before.tensors,
      leakedBytes: after.bytes - before.bytes,
      profile,
    };
  } finally {
    disposeParameters(parameters);
  }

  /** Waits for the last update, and frees the step's metrics. */
  async function finish(results: readonly tf.Tensor[]): Promise<void> {
    await parameters.get(trained.at(-1)!)!.stepCount.data();
    await results.at(-1)!.data();
    tf.dispose([...results]);
  }

  /** The micro-batches of a step: random tokens, as data that was prepared ahead would be. */
  function prepareStep(step: number): PreparedBatch[] {
    return Array.from({ length: gradientAccumulation }, (_, micro) => {
      const stream = random.fork("bench").fork(step).fork(micro);
      const tokens = Int32Array.from({ length: batchSize * sequenceLength }, (_, index) =>
        stream.integer(config.vocabSize, index),
      );
      return setup.objective.prepare(tokens, batchSize, sequenceLength, stream.fork("masking"));
    });
  }

  /** Starts a step's operators; nothing is read back. Gives the losses, then the gradient norm. */
  function startStep(batches: readonly PreparedBatch[], step: number): tf.Tensor[] {
    const sums: Gradients = new Map();
    const losses: tf.Tensor[] = [];
    for (const [micro, prepared] of batches.entries()) {
      phase("batch");
      const batch = toDevice(prepared);
      const loss = differentiate({
        family: watched,
        config,
        weights: weightsOf(parameters),
        trained,
        batch,
        layerMap,
        dropout: random.fork("dropout").fork(step).fork(micro),
        compute: setup,
        scale: 1 / gradientAccumulation,
        sums,
      });
      disposeBatch(batch);
      losses.push(loss);
    }
    phase("optimizer");
    const { optimizer, gradientClipNorm: clipNorm } = setup;
    const { learningRate } = optimizer;
    const names = trained;
    const norm = applyGradients(sums, { parameters, names, decays, optimizer, learningRate, clipNorm });
    return [...losses, norm];
  }
}

/** A family whose forward pass says when it begins, and when what follows it does. */
function inPhases(family: ModelFamily, phase: (name: string) => void): ModelFamily {
  const forward: ModelFamily["forward"] = (parameters, config, input, options) => {
    phase("forward");
    const logits = family.forward(parameters, config, input, options);
    phase("loss and backward");
    return logits;
  };
  return Object.create(family, { forward: { value: forward } }) as ModelFamily;
}

async function shareOfJavascript(runStep: () => void): Promise<number | null> {
  const { kernelMs, wallMs } = await tf.time(runStep);
  if (typeof kernelMs !== "number") return null;
  const share = 1 - kernelMs / wallMs;
  // Engines without a clock of their own answer with the wall's time.
  return share > 0.001 ? share : null;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

interface Held {
  readonly tensors: number;
  readonly bytes: number;
  /** Most that a GPU's allocator gave out so far; null where there is none. */
  readonly devicePeak: number | null;
  /** Of the process so far. */
  readonly pageFaults: number;
}

function held(): Held {
  const { numTensors, numBytes, ...engine } = tf.memory();
  const { nativeBytes, devicePeakBytes } = engine as {
    nativeBytes?: number;
    devicePeakBytes?: number | null;
  };
  return {
    tensors: numTensors,
    bytes: nativeBytes ?? numBytes,
    devicePeak: devicePeakBytes ?? null,
    pageFaults: process.resourceUsage().minorPageFault,
  };
}
