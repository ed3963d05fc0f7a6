import type {
  ComputeOptions,
  LayerMap,
  ModelConfig,
  ModelFamily,
  Optimizer,
  PreparedBatch,
  RandomStream,
  TrainingParameters,
} from "@espalier/core";
import { weightsOf } from "@espalier/growth";
import { softmaxCrossEntropy } from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";
import { applyGradients } from "./apply-gradients.js";
import { differentiate, disposeBatch, type Gradients, toDevice, trainedParameters } from "./micro-step.js";
import { decayOf } from "./parameters.js";
import { checkPrecision } from "./precision.js";

/** A model under training, one optimizer step at a time: what the benchmarks put beside another library's step. */
export interface TrainableModel {
  readonly family: ModelFamily;
  readonly config: ModelConfig;
  /** Updated in place by each step; the caller's. */
  readonly parameters: TrainingParameters;
  readonly optimizer: Optimizer;
  /** Largest global gradient norm; null clips nothing. */
  readonly gradientClipNorm: number | null;
  readonly compute: ComputeOptions;
}

/** What a step gave. */
export interface StepResult {
  /** Mean over the counted positions, before the update. */
  readonly loss: number;
  /** Global norm before clipping. */
  readonly gradientNorm: number;
}

/** Steps of one model, each on a batch of the caller's. */
export interface TrainingSteps {
  /**
   * One optimizer step on one micro-batch, as a run takes it: forward, backward, clipping, update. Reads the loss back,
   * and so waits for the device.
   *
   * @param dropout the step's own stream, or null to drop nothing
   */
  step(batch: PreparedBatch, layerMap: LayerMap, dropout: RandomStream | null): Promise<StepResult>;
  /** The mean loss over the counted positions, nothing dropped. */
  loss(batch: PreparedBatch, layerMap: LayerMap): Promise<number>;
}

/**
 * The steps of a model; its parameters stay the caller's.
 *
 * @throws UsageError for a precision that the engine does not compute in
 */
export function trainingSteps(model: TrainableModel): TrainingSteps {
  const { family, config, parameters, optimizer, gradientClipNorm, compute } = model;
  checkPrecision(compute.precision ?? "fp32");
  const layout = family.layout(config.depth);
  const decays = decayOf(family, config);
  return {
    async step(prepared, layerMap, dropout) {
      const trained = trainedParameters(layout, layerMap, "all");
      const batch = toDevice(prepared);
      const gradients: Gradients = new Map();
      const loss = differentiate({
        family,
        config,
        weights: weightsOf(parameters),
        trained,
        batch,
        layerMap,
        dropout,
        compute,
        scale: 1,
        sums: gradients,
      });
      disposeBatch(batch);
      const norm = applyGradients(gradients, {
        parameters,
        names: trained,
        decays,
        optimizer,
        learningRate: optimizer.learningRate,
        clipNorm: gradientClipNorm,
      });
      // The loss is known before the update is computed: the last parameter's count is what waits for that.
      const [lossValue, normValue] = await Promise.all([
        loss.data(),
        norm.data(),
        parameters.get(trained.at(-1)!)!.stepCount.data(),
      ]);
      tf.dispose([loss, norm]);
      return { loss: lossValue[0]!, gradientNorm: normValue[0]! };
    },
    async loss(prepared, layerMap) {
      const batch = toDevice(prepared);
      const loss = tf.tidy(() =>
        softmaxCrossEntropy(
          family.forward(weightsOf(parameters), config, batch, { ...compute, layerMap, dropout: null }),
          batch.labels,
        ),
      );
      disposeBatch(batch);
      const values = await loss.data();
      loss.dispose();
      return values[0]!;
    },
  };
}
