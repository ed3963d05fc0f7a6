import { EspalierError, type ParameterMap } from "@espalier/core";
import type * as tf from "@tensorflow/tfjs";

/** Parameters by name below a prefix, typed by rank. */
export interface Weights {
  matrix(name: string): tf.Tensor2D;
  vector(name: string): tf.Tensor1D;
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
    matrix: (name) => tensor(name, 2) as tf.Tensor2D,
    vector: (name) => tensor(name, 1) as tf.Tensor1D,
    under: (more) => weightsOf(parameters, prefix + more),
  };
}
