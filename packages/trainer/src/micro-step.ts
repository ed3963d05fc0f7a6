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
  StepLoad,
} from "@espalier/core";
import { softmaxCrossEntropy } from "@espalier/ops";
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

/**
 * Forward and backward of one micro-batch. A layer that the map uses several times gets the sum of its gradients.
 *
 * @param weights at least every parameter that is used
 * @param trained names of those to differentiate by
 * @param scale the gradients' factor: 1 / micro-steps of the optimizer step, so that they add up to a mean
 * @returns the mean loss over the counted positions (scalar, unscaled), and a gradient for each trained parameter that
 * the loss depends on; all owned by the caller
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
}): { readonly loss: tf.Scalar; readonly gradients: Map<string, tf.Tensor> } {
  const { family, config, weights, trained, batch, layerMap, dropout, compute, scale } = options;
  const scaleTensor = tf.scalar(scale);
  const { value, grads } = tf.engine().gradients(
    () => {
      const logits = family.forward(weights, config, batch, { ...compute, layerMap, dropout });
      return softmaxCrossEntropy(logits, batch.labels);
    },
    trained.map((name) => weights.get(name)!),
    scaleTensor,
    true,
  );
  scaleTensor.dispose();
  const gradients = new Map<string, tf.Tensor>();
  const seen = new Set<tf.Tensor>();
  // A parameter that the loss does not depend on has no gradient: its place in the list is then empty. Two parameters
  // that are added to each other may have one and the same, but each is to be owned by itself.
  for (const [index, gradient] of (grads as (tf.Tensor | null | undefined)[]).entries()) {
    if (!gradient) continue;
    gradients.set(trained[index]!, seen.has(gradient) ? gradient.clone() : gradient);
    seen.add(gradient);
  }
  return { loss: value as tf.Scalar, gradients };
}

/**
 * FLOPs of a micro-step as it was executed: backward costs twice the forward pass of the part that it goes through,
 * which is the top layers only where only they are trained.
 */
export function flopsOfStep(
  family: ModelFamily,
  config: ModelConfig,
  load: StepLoad,
  update: StepDepth["update"],
): number {
  const full = family.cost(config, load);
  if (update === "all") return full.trainingFlops;
  const executedLayers = Math.min(update.topLayers, load.executedLayers);
  const trained = family.cost(config, { ...load, executedLayers });
  return full.forwardFlops + trained.trainingFlops - trained.forwardFlops;
}
