import type {
  ModelConfig,
  ModelFamily,
  ParameterSpec,
  RandomStream,
  TrainingParameters,
} from "@espalier/core";
import * as tf from "@tensorflow/tfjs";

/**
 * New parameters of a model, with empty moments. Each parameter is drawn from `random.fork("init").fork(name)`, so its
 * initial value does not depend on which others exist, nor on their order: a model of depth 3 starts with the very layers
 * that a model of depth 12 starts with.
 *
 * @param random the run's root stream
 * @returns in the family's order; the caller owns the tensors
 */
export function initializeParameters(
  family: ModelFamily,
  config: ModelConfig,
  random: RandomStream,
): TrainingParameters {
  const parameters: TrainingParameters = new Map();
  for (const spec of family.parameters(config))
    parameters.set(spec.name, {
      weight: tf.keep(initialWeight(spec, random)),
      firstMoment: tf.keep(tf.zeros([...spec.shape])),
      secondMoment: tf.keep(tf.zeros([...spec.shape])),
      stepCount: tf.keep(tf.scalar(0)),
    });
  return parameters;
}

/**
 * The initial value of one parameter, from `random.fork("init").fork(name)`.
 *
 * @returns float32 of the parameter's shape, owned by the caller
 */
export function initialWeight(spec: ParameterSpec, random: RandomStream): tf.Tensor {
  const shape = [...spec.shape];
  if (spec.initializer.kind === "zeros") return tf.zeros(shape);
  if (spec.initializer.kind === "ones") return tf.ones(shape);
  const size = shape.reduce((product, length) => product * length, 1);
  const values = random.fork("init").fork(spec.name).normals(size);
  const { deviation } = spec.initializer;
  for (let index = 0; index < size; index++) values[index] = values[index]! * deviation;
  return tf.tensor(values, shape, "float32");
}

/** Disposes every tensor of a training state. */
export function disposeParameters(parameters: TrainingParameters): void {
  for (const state of parameters.values())
    tf.dispose([state.weight, state.firstMoment, state.secondMoment, state.stepCount]);
}
