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
import { addGradients, applyGradients, type Gradients } from "./apply-gradients.js";
import { configAt } from "./growth-plan.js";
import { differentiate, disposeBatch, toDevice, trainedParameters } from "./micro-step.js";
import { decayOf } from "./parameters.js";
import { checkPrecision } from "./precision.js";

/** What is timed. */
export interface BenchmarkSetup extends ComputeOptions {
  readonly family: ModelFamily;
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
  readonly onStep?: (step: number, seconds: number) => void;
}

/** What was measured. */
export interface BenchmarkResult {
  readonly tokensPerSecond: number;
  /** Median of the timed optimizer steps. */
  readonly stepSeconds: number;
  /** Seconds of one growth with moments, the device's time included; null if none was timed. */
  readonly growthSeconds: number | null;
  /** Largest resident memory of the process so far, in bytes; a GPU's own memory is not in it. */
  readonly peakBytes: number;
  /**
   * Share of a step's time that is spent in JavaScript between kernels; null where the engine does not tell its own
   * time apart from the wall's.
   */
  readonly javascriptShare: number | null;
  /** Tensors that the timed steps left alive beside the parameters: 0, or there is a leak. */
  readonly leakedTensors: number;
  /** Bytes that the timed steps left alive: the engine's own count where it has one, else TensorFlow.js's. */
  readonly leakedBytes: number;
}

/** Times optimizer steps on random tokens; every step waits for the device, so that the times are the device's. */
export async function benchmarkStep(setup: BenchmarkSetup): Promise<BenchmarkResult> {
  const { family, config, layerMap, batchSize, sequenceLength, gradientAccumulation, random } = setup;
  checkPrecision(setup.precision ?? "fp32");
  let parameters = initializeParameters(
    family,
    setup.growth === null ? config : configAt(config, setup.growth.from),
    random,
  );
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
    const trained = trainedParameters(family.layout(config.depth), layerMap, "all");
    const decays = decayOf(family, config);
    const times: number[] = [];
    let before = held();
    for (let step = 0; step < setup.warmup + setup.steps; step++) {
      if (step === setup.warmup) before = held();
      const began = performance.now();
      await optimizerStep(step, trained, decays);
      const seconds = (performance.now() - began) / 1000;
      if (step < setup.warmup) continue;
      times.push(seconds);
      setup.onStep?.(step - setup.warmup + 1, seconds);
    }
    const after = held();
    const javascriptShare = await shareOfJavascript(setup.warmup + setup.steps, trained, decays);
    times.sort((a, b) => a - b);
    const middle = Math.floor(times.length / 2);
    const stepSeconds = times.length % 2 === 1 ? times[middle]! : (times[middle - 1]! + times[middle]!) / 2;
    return {
      tokensPerSecond: (batchSize * sequenceLength * gradientAccumulation) / stepSeconds,
      stepSeconds,
      growthSeconds,
      peakBytes: process.resourceUsage().maxRSS * 1024,
      javascriptShare,
      leakedTensors: after.tensors - before.tensors,
      leakedBytes: after.bytes - before.bytes,
    };
  } finally {
    disposeParameters(parameters);
  }

  async function optimizerStep(
    step: number,
    trained: readonly string[],
    decays: ReadonlyMap<string, boolean>,
  ): Promise<void> {
    const results = startStep(prepareStep(step), step, trained, decays);
    await parameters.get(trained.at(-1)!)!.stepCount.data();
    await results.at(-1)!.data();
    tf.dispose(results);
  }

  async function shareOfJavascript(
    step: number,
    trained: readonly string[],
    decays: ReadonlyMap<string, boolean>,
  ): Promise<number | null> {
    const batches = prepareStep(step);
    const { kernelMs, wallMs } = await tf.time(() => tf.dispose(startStep(batches, step, trained, decays)));
    if (typeof kernelMs !== "number") return null;
    const share = 1 - kernelMs / wallMs;
    // Engines without a clock of their own answer with the wall's time.
    return share > 0.001 ? share : null;
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
  function startStep(
    batches: readonly PreparedBatch[],
    step: number,
    trained: readonly string[],
    decays: ReadonlyMap<string, boolean>,
  ): tf.Tensor[] {
    const sums: Gradients = new Map();
    const losses: tf.Tensor[] = [];
    for (const [micro, prepared] of batches.entries()) {
      const batch = toDevice(prepared);
      const { loss, gradients } = differentiate({
        family,
        config,
        weights: weightsOf(parameters),
        trained,
        batch,
        layerMap,
        dropout: random.fork("dropout").fork(step).fork(micro),
        compute: setup,
        scale: 1 / gradientAccumulation,
      });
      disposeBatch(batch);
      addGradients(sums, gradients);
      losses.push(loss);
    }
    const { optimizer, gradientClipNorm: clipNorm } = setup;
    const { learningRate } = optimizer;
    const names = trained;
    const norm = applyGradients(sums, { parameters, names, decays, optimizer, learningRate, clipNorm });
    return [...losses, norm];
  }
}

function held(): { tensors: number; bytes: number } {
  const { numTensors, numBytes, ...engine } = tf.memory();
  const native = (engine as { nativeBytes?: number }).nativeBytes;
  return { tensors: numTensors, bytes: native ?? numBytes };
}
