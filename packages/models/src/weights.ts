import { EspalierError, type ParameterMap } from "@espalier/core";
import type { LinearParameters, NormParameters } from "@espalier/ops";
import type * as tf from "@tensorflow/tfjs";

/** Parameters by name below a prefix, typed by rank. */
export interface Weights {
  matrix(name: string): tf.Tensor2D;
  vector(name: string): tf.Tensor1D;
  /** `<name>.weight` and `<name>.bias` of a linear layer. */
  linear(name: string): LinearParameters;
  /** The same of a layer normalisation. */
  norm(name: string, epsilon: number): NormParameters;
  /** The same parameters below a longer prefix. */
  under(prefix: string): Weights;
}

/** @throws EspalierError ESPALIER_MODEL_PARAMETER_MISSING, …_SHAPE from its methods */
export function weightsOf(parameters: ParameterMap, prefix = ""): Weights {
  const tensor = (name: string, rank: number) => {
    const found = parameters.get(prefix + name);
    if (found === undefined)
      throw new EspalierError(
        "ESPALIER_MODEL_PARAMETER_MISSING",
        `the model has no parameter "${prefix}${name}"`,
      );
    if (found.rank !== rank)
      throw new EspalierError(
        "ESPALIER_MODEL_PARAMETER_SHAPE",
        `parameter "${prefix}${name}" has shape [${found.shape.join(",")}], but ${rank} ${rank === 1 ? "axis is" : "axes are"} expected`,
      );
    return found;
  };
  return {
    linear: (name) => ({
      weight: tensor(`${name}.weight`, 2) as tf.Tensor2D,
      bias: tensor(`${name}.bias`, 1) as tf.Tensor1D,
    }),
    norm: (name, epsilon) => ({
      gain: tensor(`${name}.weight`, 1) as tf.Tensor1D,
      bias: tensor(`${name}.bias`, 1) as tf.Tensor1D,
      epsilon,
    }),
    matrix: (name) => tensor(name, 2) as tf.Tensor2D,
    vector: (name) => tensor(name, 1) as tf.Tensor1D,
    under: (more) => weightsOf(parameters, prefix + more),
  };
}
