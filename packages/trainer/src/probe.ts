import type { LayerMap, ModelConfig, ModelFamily, TrainingParameters } from "@espalier/core";
import { weightsOf } from "@espalier/growth";
import { globalNorm } from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";
import { adamWOptimizer } from "./adamw-optimizer.js";
import { applyGradients } from "./apply-gradients.js";
import {
  type DeviceBatch,
  differentiate,
  disposeBatch,
  type Gradients,
  toDevice,
  trainedParameters,
} from "./micro-step.js";
import { decayOf } from "./parameters.js";
import { countedLabels, type ProbeBatch } from "./probe-batch.js";

/** A model to look at. */
export interface ProbeModel {
  readonly family: ModelFamily;
  readonly config: ModelConfig;
  /** Stay the caller's; changed if there are training steps. */
  readonly parameters: TrainingParameters;
  readonly layerMap: LayerMap;
}

/** AdamW steps on the batch: constant rate, β 0.9 and 0.999, ε 1e-8. */
export interface ProbeTraining {
  readonly steps: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  /** Largest global gradient norm; null clips nothing. */
  readonly clip: number | null;
}

/** What a model makes of a batch, dropout off. */
export interface ProbeResult {
  readonly loss: number;
  /** Every position's, padded ones too. `[batch][seq][vocab]` */
  readonly logits: number[][][];
  /** L2 norm by parameter; a shared layer's is that of its summed gradient. */
  readonly gradNorms: { readonly [name: string]: number };
  readonly globalGradNorm: number;
  /** Loss before each training step, where there are any. */
  readonly losses?: readonly number[];
}

/** Logits, loss and gradient norms of a model on a batch, to compare with another implementation. */
export async function probeBatch(
  model: ProbeModel,
  given: ProbeBatch,
  training: ProbeTraining | null = null,
): Promise<ProbeResult> {
  const batch = probeToDevice(given, model.family.causal);
  try {
    const logits = await allLogits(model, batch);
    const { loss, gradients } = backward(model, batch);
    const norm = globalNorm([...gradients.values()]);
    const gradNorms: { [name: string]: number } = {};
    for (const [name, gradient] of gradients) gradNorms[name] = await norm2(gradient);
    const globalGradNorm = (await norm.data())[0]!;
    const first = (await loss.data())[0]!;
    tf.dispose([loss, norm, ...gradients.values()]);
    const result = { loss: first, logits, gradNorms, globalGradNorm };
    return training === null ? result : { ...result, losses: await trainOn(model, batch, training) };
  } finally {
    disposeBatch(batch);
  }
}

async function trainOn(
  model: ProbeModel,
  batch: DeviceBatch,
  { steps, learningRate, weightDecay, clip }: ProbeTraining,
): Promise<number[]> {
  const optimizer = adamWOptimizer({ learningRate, weightDecay, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 });
  const decays = decayOf(model.family, model.config);
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const { loss, gradients } = backward(model, batch);
    const names = [...gradients.keys()];
    const { parameters } = model;
    const norm = applyGradients(gradients, {
      parameters,
      names,
      decays,
      optimizer,
      learningRate,
      clipNorm: clip,
    });
    losses.push((await loss.data())[0]!);
    tf.dispose([loss, norm]);
  }
  return losses;
}

function backward({ family, config, parameters, layerMap }: ProbeModel, batch: DeviceBatch) {
  const trained = trainedParameters(family.layout(config.depth), layerMap, "all");
  const weights = weightsOf(parameters);
  const gradients: Gradients = new Map();
  const loss = differentiate({
    family,
    config,
    weights,
    trained,
    batch,
    layerMap,
    dropout: null,
    compute: {},
    scale: 1,
    sums: gradients,
  });
  const inOrder = trained.filter((name) => gradients.has(name));
  return { loss, gradients: new Map(inOrder.map((name) => [name, gradients.get(name)!])) };
}

async function allLogits(model: ProbeModel, batch: DeviceBatch): Promise<number[][][]> {
  const { family, config, parameters, layerMap } = model;
  const input = { ...batch, countedPositions: null };
  const logits = tf.tidy(() =>
    family.forward(weightsOf(parameters), config, input, { layerMap, dropout: null }),
  );
  const values = await logits.data<"float32">();
  logits.dispose();
  const [rows, length] = batch.inputIds.shape;
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length }, (_, column) => {
      const start = (row * length + column) * config.vocabSize;
      return Array.from(values.subarray(start, start + config.vocabSize));
    }),
  );
}

async function norm2(tensor: tf.Tensor): Promise<number> {
  const values = await tensor.data();
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum);
}

function probeToDevice(given: ProbeBatch, causal: boolean): DeviceBatch {
  const { positions, labels } = countedLabels(given, causal);
  return toDevice({
    batchSize: given.inputIds.length,
    sequenceLength: given.inputIds[0]!.length,
    inputIds: Int32Array.from(given.inputIds.flat()),
    attentionMask: given.attentionMask && Float32Array.from(given.attentionMask.flat()),
    countedPositions: positions,
    labels,
  });
}
