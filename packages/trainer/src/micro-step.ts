import type {
  ComputeOptions,
  LayerMap,
  ModelConfig,
  ModelFamily,
  ModelInput,
  ParameterPlace,
  PreparedBatch,
  RandomStream,
  StepDepth,
} from "@espalier/core";
import { backpropagate, softmaxCrossEntropy } from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";

/** A micro-batch on the device. Dispose it. */
export interface DeviceBatch extends ModelInput {
  /** int32 `[counted]` */
  readonly labels: tf.Tensor1D;
}

/** Copies a micro-batch to the device. */
export function toDevice(batch: PreparedBatch): DeviceBatch {
  const { batchSize, sequenceLength, attentionMask } = batch;
  const shape: [number, number] = [batchSize, sequenceLength];
  return {
    inputIds: tf.tensor2d(batch.inputIds, shape, "int32"),
    attentionMask: attentionMask && tf.tensor2d(attentionMask, shape, "float32"),
    countedPositions: tf.tensor1d(batch.countedPositions, "int32"),
    labels: tf.tensor1d(batch.labels, "int32"),
  };
}

/** Frees a micro-batch. */
export function disposeBatch(batch: DeviceBatch): void {
  for (const tensor of [batch.inputIds, batch.attentionMask, batch.countedPositions, batch.labels])
    tensor?.dispose();
}

/**
 * Which parameters a micro-step trains, in the family's order: those of the layers that it executes and everything
 * outside of the layers, or only the topmost executed layers and the head.
 */
export function trainedParameters(
  layout: readonly ParameterPlace[],
  layerMap: LayerMap,
  update: StepDepth["update"],
): string[] {
  const first = update === "all" ? 0 : Math.max(0, layerMap.length - update.topLayers);
  const layers = new Set(layerMap.slice(first));
  const isTrained = ({ layer, part }: ParameterPlace): boolean =>
    layer === null ? update === "all" || part === "head" : layers.has(layer);
  return layout.filter(isTrained).map((place) => place.name);
}

/** Gradients by parameter name. */
export type Gradients = Map<string, tf.Tensor>;

/**
 * Forward and backward of one micro-batch. Its gradients are added to the sums: those of a layer that the map uses
 * several times, and those of the micro-steps before.
 *
 * @param weights at least every parameter that is used
 * @param trained names of those to differentiate by
 * @param scale the gradients' factor: 1 / micro-steps of the optimizer step, so that they add up to a mean
 * @param sums owned by the caller; a parameter that the loss does not depend on gets no entry
 * @returns the mean loss over the counted positions (scalar, unscaled), owned by the caller
 */
export function differentiate(options: {
  readonly family: ModelFamily;
  readonly config: ModelConfig;
  readonly weights: ReadonlyMap<string, tf.Tensor>;
  readonly trained: readonly string[];
  readonly batch: DeviceBatch;
  readonly layerMap: LayerMap;
  readonly dropout: RandomStream | null;
  readonly compute: ComputeOptions;
  readonly scale: number;
  readonly sums: Gradients;
}): tf.Scalar {
  const { family, config, weights, trained, batch, layerMap, dropout, compute, scale, sums } = options;
  const scaleTensor = tf.scalar(scale);
  try {
    return backpropagate(
      () => {
        const logits = family.forward(weights, config, batch, { ...compute, layerMap, dropout });
        return softmaxCrossEntropy(logits, batch.labels);
      },
      new Map(trained.map((name) => [name, weights.get(name)!])),
      scaleTensor,
      sums,
    );
  } finally {
    scaleTensor.dispose();
  }
}
