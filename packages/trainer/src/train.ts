import { relative } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { stepFolder, writeStep } from "@espalier/checkpoints";
import {
  type ComputeOptions,
  checkLayerMap,
  EspalierError,
  flopsOfStep,
  identityLayerMap,
  type LayerMap,
  shapeOf,
} from "@espalier/core";
import { disposeParameters, weightsOf } from "@espalier/growth";
import type { StepMetrics } from "@espalier/tracking";
import type * as tf from "@tensorflow/tfjs";
import { applyGradients } from "./apply-gradients.js";
import { begin } from "./beginning.js";
import { checkSetup, learningRatePoint, progressOf, spent } from "./budget.js";
import { evaluate } from "./evaluation.js";
import { writeGrowthMap } from "./growth-map-file.js";
import { grow } from "./growth-step.js";
import { differentiate, disposeBatch, type Gradients, toDevice, trainedParameters } from "./micro-step.js";
import { isOutOfMemory, outOfMemory } from "./out-of-memory.js";
import { decayOf, momentsToWrite, weightsToWrite } from "./parameters.js";
import { PendingMetrics } from "./pending-metrics.js";
import { TrainingClock } from "./training-clock.js";
import type { TrainingResult, TrainingSetup } from "./training-setup.js";
import { stateToJson } from "./training-state.js";

/**
 * Trains: the whole loop, from top to bottom. Before each optimizer step the schedule is asked whether to grow; in each
 * micro-step the sampler draws how deep a network runs. Nothing waits for the device within a step: losses are read back
 * a few steps late, and always before an evaluation, a growth or a checkpoint.
 *
 * Every draw is a pure function of the seed, a label and a counter, so a resumed run does to the bit what an
 * uninterrupted one would have done.
 *
 * @throws UsageError if the setup cannot be trained, before anything is written
 * @throws EspalierError ESPALIER_DIVERGED at the first loss or gradient norm that is not finite; the last good checkpoint
 * is intact
 * @throws EspalierError ESPALIER_OUT_OF_MEMORY naming the batch size to try; the last checkpoint is intact
 */
export async function train(setup: TrainingSetup): Promise<TrainingResult> {
  checkSetup(setup);
  const { family, strategies, data, budget, random, batchSize, gradientAccumulation, journal } = setup;
  const { schedule, sampler, sharing, objective, optimizer } = strategies;
  const { sequenceLength } = data;
  const compute: ComputeOptions = {
    precision: setup.precision ?? "fp32",
    recompute: setup.recompute ?? false,
  };
  const target = shapeOf(setup.config);

  const { state, resumedFrom } = await begin(setup);
  const clock = new TrainingClock(state.seconds);
  const pending = new PendingMetrics(state);
  const atBeginning = { seconds: state.seconds, flops: state.flops, spent: spent(state, budget) };
  let layout = family.layout(state.config.depth);
  let decays = decayOf(family, state.config);
  let checkpointed = resumedFrom;
  let checkpointPath = resumedFrom === null ? null : stepFolder(setup.folder, resumedFrom);
  let tokensPerSecond = 0;
  let learningRate = 0;
  let executing = 0;

  try {
    const time = Date.now();
    if (resumedFrom === null)
      journal.event({ event: "start", step: 0, time, sourceFlops: state.sourceFlops });
    else journal.event({ event: "resume", step: state.step, time });

    while (spent(state, budget) < budget.amount && !setup.signal?.aborted) {
      // Grow, if it is time. A schedule may ask for several growths at once; it is asked until it is content.
      for (;;) {
        const progress = progressOf(state, budget);
        const current = shapeOf(state.config);
        const input = { progress, current, target, budget };
        const [to, memory] = schedule.next(
          state.scheduleMemory,
          input,
          random.fork("schedule").fork(state.step),
        );
        state.scheduleMemory = memory;
        if (to === null) break;
        await settle();
        const { record, map } = await grow(setup, state, to);
        layout = family.layout(state.config.depth);
        decays = decayOf(family, state.config);
        await clock.excluding(() => writeGrowthMap(setup.folder, record.stage, map));
        journal.event({ event: "growth", time: Date.now(), ...record });
      }

      // Micro-steps: their gradients add up to the mean. The counter places each in data, masks, depths and dropout.
      const uniqueLayers = state.config.depth;
      const weights = weightsOf(state.parameters);
      const gradients: Gradients = new Map();
      const losses: tf.Scalar[] = [];
      const depths: number[] = [];
      const progress = progressOf(state, budget);
      for (let micro = 0; micro < gradientAccumulation; micro++) {
        const index = state.microStep;
        const input = { progress, current: shapeOf(state.config), target };
        const [{ executedLayers, update }, memory] = sampler.next(
          state.samplerMemory,
          input,
          random.fork("sampler").fork(index),
        );
        state.samplerMemory = memory;
        const layerMap = sharing(uniqueLayers, executedLayers, random.fork("layer-map").fork(index));
        checkLayerMap(layerMap, uniqueLayers);

        const tokens = data.trainingBatch(index, batchSize, random.fork("order"));
        const prepared = objective.prepare(
          tokens,
          batchSize,
          sequenceLength,
          random.fork("masking").fork(index),
        );
        executing = layerMap.length;
        const batch = toDevice(prepared);
        const loss = differentiate({
          family,
          config: state.config,
          weights,
          trained: trainedParameters(layout, layerMap, update),
          batch,
          layerMap,
          dropout: random.fork("dropout").fork(index),
          compute,
          scale: 1 / gradientAccumulation,
          sums: gradients,
        });
        disposeBatch(batch);
        losses.push(loss);
        depths.push(layerMap.length);

        const load = {
          batchSize,
          sequenceLength,
          executedLayers: layerMap.length,
          countedPositions: prepared.labels.length,
        };
        state.flops += flopsOfStep(family, state.config, load, update);
        state.tokens += batchSize * sequenceLength;
        state.microStep++;
      }
      state.step++;

      // Update what got a gradient, and nothing else.
      const factor = strategies.learningRate.factor(learningRatePoint(state, budget));
      learningRate = optimizer.learningRate * factor;
      const norm = applyGradients(gradients, {
        parameters: state.parameters,
        names: layout.map((place) => place.name),
        decays,
        optimizer,
        learningRate,
        clipNorm: setup.gradientClipNorm,
      });

      state.seconds = clock.seconds;
      const depth = depths.at(-1)!;
      const { step, stage, flops, tokens, seconds } = state;
      pending.add({
        step,
        time: Date.now(),
        losses,
        norm,
        depth,
        ...(depths.length > 1 ? { depths } : {}),
        stage,
        uniqueLayers,
        learningRate,
        flops,
        tokens,
        seconds,
      });

      // What happens between steps.
      if (pending.isDue) await settle();
      if (isMultiple(step, setup.evaluation.every)) await evaluateNow();
      if (isMultiple(step, setup.checkpoints.every)) await checkpointNow();
      tellProgress(depth);
      // Lets signals and timers have their turn: engines that compute synchronously never give them one.
      await nextTurn();
    }

    const interrupted = spent(state, budget) < budget.amount;
    if (!interrupted && state.evaluatedAt !== state.step) await evaluateNow();
    if (state.step > 0 && checkpointed !== state.step) await checkpointNow();
    else await settle();
    const result: TrainingResult = {
      steps: state.step,
      finalTrainLoss: state.trainLoss,
      finalEvalLoss: state.evaluatedAt === state.step ? state.evaluationLoss : null,
      flops: state.flops,
      sourceFlops: state.sourceFlops,
      tokens: state.tokens,
      seconds: state.seconds,
      tokensPerSecond: state.seconds > 0 ? state.tokens / state.seconds : 0,
      stage: state.stage,
      shape: shapeOf(state.config),
      growths: state.growths,
      checkpoint: checkpointPath,
      interrupted,
      resumedFrom,
    };
    const { finalTrainLoss, finalEvalLoss, flops, seconds } = result;
    journal.event(
      interrupted
        ? { event: "interrupted", step: state.step, time: Date.now() }
        : {
            event: "end",
            step: state.step,
            time: Date.now(),
            finalTrainLoss,
            finalEvalLoss,
            flops,
            seconds,
            tokensPerSecond: result.tokensPerSecond,
          },
    );
    await journal.flush();
    return result;
  } catch (error) {
    if (!(error instanceof Error) || !isOutOfMemory(error)) throw error;
    await journal.flush();
    throw outOfMemory(error, {
      batchSize,
      gradientAccumulation,
      sequenceLength,
      executedLayers: executing,
      step: state.step + 1,
      checkpoint: checkpointPath,
    });
  } finally {
    pending.dispose();
    disposeParameters(state.parameters);
  }

  /** Reads back what is pending and records it. After it, every completed step is known to be good. */
  async function settle(): Promise<void> {
    const settled = await pending.read();
    for (const metrics of settled) {
      if (!Number.isFinite(metrics.loss) || !Number.isFinite(metrics.gradientNorm))
        throw await diverged(metrics, Number.isFinite(metrics.loss) ? "gradient norm" : "loss");
      journal.step(metrics);
      state.trainLoss = metrics.loss;
      tokensPerSecond = metrics.tokensPerSecond;
    }
    // Only what trains takes training time: a finished run that is resumed has as many seconds as before.
    if (settled.length > 0) state.seconds = clock.seconds;
  }

  async function diverged(
    {
      step,
      loss,
      gradientNorm,
      learningRate,
    }: Pick<StepMetrics, "step" | "loss" | "learningRate"> & Partial<StepMetrics>,
    what: "loss" | "gradient norm" | "evaluation loss",
  ): Promise<EspalierError> {
    journal.event({ event: "diverged", step, time: Date.now(), loss, gradientNorm });
    await journal.flush();
    const last =
      checkpointPath === null
        ? "there is no checkpoint yet"
        : `the last good checkpoint is ${checkpointPath}`;
    return new EspalierError(
      "ESPALIER_DIVERGED",
      `training diverged: the ${what} is ${what === "gradient norm" ? gradientNorm : loss} at step ${step} (learning rate ${learningRate}); ${last}`,
      {
        hint: "lower the learning rate, warm up for longer, or clip the gradient (training.gradientClipNorm)",
      },
    );
  }

  /** The loss on held-out text: at the unique layers, and at the target depth where the method shares layers. */
  async function evaluateNow(): Promise<void> {
    await settle();
    await clock.excluding(async () => {
      const { config, step, flops, tokens, seconds } = state;
      const loss = await heldOutLoss(identityLayerMap(config.depth), setup.evaluation.batches);
      const distribution = sampler.distribution(state.samplerMemory, {
        progress: progressOf(state, budget),
        current: shapeOf(config),
        target,
      });
      const isShared = Math.max(...distribution.keys()) > config.depth;
      const sharedMap = sharing(config.depth, target.depth, random.fork("evaluation"));
      const atTarget = isShared
        ? {
            targetDepth: target.depth,
            targetLoss: await heldOutLoss(sharedMap, setup.evaluation.batches),
          }
        : {};
      state.evaluationLoss = loss;
      state.evaluatedAt = step;
      const time = Date.now();
      const { depth } = config;
      journal.event({ event: "evaluation", step, time, loss, depth, ...atTarget, flops, tokens, seconds });
    });
  }

  async function heldOutLoss(layerMap: LayerMap, batches: number): Promise<number> {
    const { config, parameters, step } = state;
    const weights = weightsOf(parameters);
    const { loss } = await evaluate({
      family,
      config,
      weights,
      layerMap,
      data,
      objective,
      batchSize,
      batches,
      ...compute,
    });
    if (!Number.isFinite(loss)) throw await diverged({ step, loss, learningRate }, "evaluation loss");
    return loss;
  }

  /**
   * Writes a checkpoint of a model that is known to be good, after its journal lines are on the disk. The losses of its
   * steps say nothing of the last update: a batch of held-out text does.
   */
  async function checkpointNow(): Promise<void> {
    await settle();
    await clock.excluding(async () => {
      if (state.evaluatedAt !== state.step) await heldOutLoss(identityLayerMap(state.config.depth), 1);
      await journal.flush();
      const content = {
        model: weightsToWrite(weightsOf(state.parameters)),
        optimizer: momentsToWrite(state.parameters),
        state: stateToJson(state, setup),
        config: family.toHuggingFace(state.config),
        ...(setup.tokenizerJson === undefined ? {} : { tokenizerJson: setup.tokenizerJson }),
      };
      checkpointPath = await writeStep(setup.folder, state.step, content, setup.checkpoints.keep);
      checkpointed = state.step;
      const path = relative(setup.folder, checkpointPath);
      journal.event({ event: "checkpoint", step: state.step, time: Date.now(), path });
    });
  }

  function tellProgress(depth: number): void {
    if (!setup.onProgress) return;
    const { step, stage, flops, tokens, seconds } = state;
    const elapsed = seconds - atBeginning.seconds;
    const [done, left] =
      setup.expectedFlops === undefined
        ? [spent(state, budget) - atBeginning.spent, budget.amount - spent(state, budget)]
        : [flops - atBeginning.flops, setup.expectedFlops - flops];
    setup.onProgress({
      step,
      totalSteps: budget.steps,
      fraction: progressOf(state, budget).fraction,
      stage,
      uniqueLayers: state.config.depth,
      depth,
      loss: state.trainLoss,
      evaluationLoss: state.evaluationLoss,
      learningRate,
      flops,
      tokens,
      seconds,
      tokensPerSecond,
      secondsLeft: done > 0 ? (elapsed * Math.max(0, left)) / done : null,
    });
  }
}

function isMultiple(step: number, every: number): boolean {
  return every > 0 && step % every === 0;
}
