import {
  type GrowthMap,
  isCopyOf,
  type ModelConfig,
  type ModelFamily,
  type ParameterMap,
  type ParameterSpec,
  type ParameterState,
  type RandomStream,
  type SlotSource,
  type StepCountSource,
  type TrainingParameters,
} from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { checkGrowthMap, type tensorSlots } from "./check-map.js";
import { initialWeight } from "./parameters.js";
import { independentCopy, overInitial, sumOfTerms } from "./tensor-source.js";

/** What a growth map is applied with. */
export interface GrowthContext {
  /** The model after growth. */
  readonly config: ModelConfig;
  readonly family: ModelFamily;
  /** The run's root stream: new weights start as {@link initializeParameters} would start them. */
  readonly random: RandomStream;
}

/**
 * Applies a growth map to weights, optimizer moments and step counts, on the device. The source is used up: tensors that
 * growth leaves as they are move to the result, all others are disposed. No two slots of the result share memory, also
 * where several come from one source, because optimizers update in place.
 *
 * Nothing is changed if it throws.
 *
 * @returns the target's parameters in the family's order; the caller owns them
 * @throws EspalierError ESPALIER_GROWTH_MAP_INVALID if the map does not fit the source and the target
 */
export function applyGrowthMap(
  map: GrowthMap,
  parameters: TrainingParameters,
  { config, family, random }: GrowthContext,
): TrainingParameters {
  const specs = checkGrowthMap(map, shapesOf(weightsOf(parameters)), family, config);
  const moves = new TensorMoves();
  const made: tf.Tensor[] = [];
  const own = (tensor: tf.Tensor): tf.Tensor => {
    made.push(tf.keep(tensor));
    return tensor;
  };
  try {
    const grown: TrainingParameters = new Map();
    for (const spec of specs) grown.set(spec.name, grownState(spec));
    disposeAllBut(parameters, moves);
    return grown;
  } catch (error) {
    tf.dispose(made);
    throw error;
  }

  function grownState(spec: ParameterSpec): ParameterState {
    const growth = map.parameters[spec.name]!;
    const slot = (name: (typeof tensorSlots)[number]): tf.Tensor => {
      const source = growth[name];
      const unchanged = parameters.get(spec.name)?.[name];
      if (unchanged && isCopyOf(source, spec.name) && moves.claim(unchanged)) return unchanged;
      return own(madeTensor(spec, source, random, (from) => parameters.get(from)![name]));
    };
    return {
      weight: slot("weight"),
      firstMoment: slot("firstMoment"),
      secondMoment: slot("secondMoment"),
      stepCount: stepCount(spec.name, growth.stepCount),
    };
  }

  function stepCount(name: string, source: StepCountSource): tf.Tensor {
    if (source.kind === "zero") return own(tf.scalar(0));
    const counts = source.names.map((from) => parameters.get(from)!.stepCount);
    if (source.names.length === 1 && source.names[0] === name && moves.claim(counts[0]!)) return counts[0]!;
    return own(
      tf.tidy(() =>
        counts.slice(1).reduce((least, count) => tf.minimum(least, count), independentCopy(counts[0]!)),
      ),
    );
  }
}

/**
 * Applies the weight part of a growth map, and leaves the source as it is.
 *
 * @returns weights with memory of their own, in the family's order; the caller owns them
 * @throws EspalierError ESPALIER_GROWTH_MAP_INVALID if the map does not fit the source and the target
 */
export function growWeights(
  map: GrowthMap,
  weights: ParameterMap,
  { config, family, random }: GrowthContext,
): Map<string, tf.Tensor> {
  const specs = checkGrowthMap(map, shapesOf(weights), family, config);
  const grown = new Map<string, tf.Tensor>();
  try {
    for (const spec of specs) {
      const source = map.parameters[spec.name]!.weight;
      grown.set(spec.name, tf.keep(madeTensor(spec, source, random, (from) => weights.get(from)!)));
    }
    return grown;
  } catch (error) {
    tf.dispose([...grown.values()]);
    throw error;
  }
}

/** The weights of a training state, which keeps owning them. */
export function weightsOf(parameters: TrainingParameters): Map<string, tf.Tensor> {
  return new Map([...parameters].map(([name, state]) => [name, state.weight]));
}

function madeTensor(
  spec: ParameterSpec,
  source: SlotSource,
  random: RandomStream,
  tensorOf: (name: string) => tf.Tensor,
): tf.Tensor {
  if (source.kind === "zeros") return tf.zeros([...spec.shape]);
  if (source.kind === "initialize") {
    const { over } = source;
    if (!over) return initialWeight(spec, random);
    return overInitial(initialWeight(spec, random), over, tensorOf(over.from));
  }
  return sumOfTerms(source.terms, tensorOf);
}

/** Which tensors of the source live on. Each memory moves once, also where the source has it under two names. */
class TensorMoves {
  readonly #memories = new Set<object>();
  readonly #tensors = new Set<tf.Tensor>();

  /** Whether the tensor may move, because its memory has not moved yet. */
  claim(tensor: tf.Tensor): boolean {
    if (this.#memories.has(tensor.dataId)) return false;
    this.#memories.add(tensor.dataId);
    this.#tensors.add(tensor);
    return true;
  }

  moved(tensor: tf.Tensor): boolean {
    return this.#tensors.has(tensor);
  }
}

function disposeAllBut(parameters: TrainingParameters, moves: TensorMoves): void {
  for (const state of parameters.values())
    for (const tensor of [state.weight, state.firstMoment, state.secondMoment, state.stepCount])
      if (!moves.moved(tensor)) tensor.dispose();
}

function shapesOf(weights: ParameterMap): Map<string, readonly number[]> {
  return new Map([...weights].map(([name, weight]) => [name, weight.shape]));
}
