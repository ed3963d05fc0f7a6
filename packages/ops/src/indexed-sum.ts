import type { GrowthTerm } from "@espalier/core";
import type * as tf from "@tensorflow/tfjs";
import type { NamedAttrMap } from "@tensorflow/tfjs-core";
import { fusedKernel } from "./kernel.js";

/**
 * A sum of terms whose axes are picked by index and scaled, in one pass over the result: of each term, the entries of
 * its source's axes times their scales and the term's own. It has no gradient: nothing is trained through it.
 *
 * @param tensorOf the source of a term
 * @returns a tensor with memory of its own, or null where the active engine has no kernel for it, or not for these terms
 *   (a matrix mixes an axis, or the rank is not 1 or 2)
 */
export function indexedSum(
  terms: readonly GrowthTerm[],
  tensorOf: (name: string) => tf.Tensor,
): tf.Tensor | null {
  const kernel = fusedKernel("EspalierIndexedSum");
  if (!kernel) return null;
  const inputs: tf.NamedTensorMap = {};
  const picked: NamedAttrMap[] = [];
  for (const [index, { from, scale, axes }] of terms.entries()) {
    const source = tensorOf(from);
    if (source.rank < 1 || source.rank > 2) return null;
    if (axes?.some((axis) => axis?.kind === "matrix")) return null;
    inputs[`source${index}`] = source;
    // TensorFlow.js's type of attributes has no null, of which its engine takes no notice.
    picked.push({ scale, axes: (axes ?? source.shape.map(() => null)) as unknown as NamedAttrMap[] });
  }
  return kernel(inputs, { terms: picked })[0]!;
}
