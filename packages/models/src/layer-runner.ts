import type { ComputeOptions, ParameterMap } from "@espalier/core";
import { recomputed } from "@espalier/ops";
import type * as tf from "@tensorflow/tfjs";
import type { ParameterTable } from "./parameter-table.js";

/** One layer: `[batch · seq, hidden]` and the padding mask, where there is one, to `[batch · seq, hidden]`. */
export type Layer = (
  hidden: tf.Tensor2D,
  mask: tf.Tensor4D | null,
  uniqueLayer: number,
  executedLayer: number,
) => tf.Tensor2D;

/** The layer as the options want it: as it is, or keeping only its input (`recompute`). */
export function layerRunner(
  layer: Layer,
  table: ParameterTable,
  parameters: ParameterMap,
  { recompute = false }: ComputeOptions,
): Layer {
  if (!recompute) return layer;
  return (hidden, mask, uniqueLayer, executedLayer) => {
    const prefix = table.layerPrefix(uniqueLayer);
    const weights = table.layer.flatMap(([suffix]) => parameters.get(prefix + suffix) ?? []);
    return recomputed(hidden, mask === null ? [] : [mask], weights, (hidden, [mask]) =>
      layer(hidden, mask ?? null, uniqueLayer, executedLayer),
    );
  };
}
