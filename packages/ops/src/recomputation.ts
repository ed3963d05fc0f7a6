import * as tf from "@tensorflow/tfjs";
import { backpropagate } from "./backpropagation.js";
import { differentiable } from "./differentiable.js";

/**
 * Runs part of a model so that it keeps nothing but its input: its backward pass runs the forward pass again (gradient
 * checkpointing, Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"). The gradients are the same to the
 * bit, as both runs are.
 *
 * @param x what comes in
 * @param constants what else it needs and may be gone by the backward pass (a mask); they get no gradient
 * @param weights every tensor beside x that gets a gradient
 * @param compute a pure function of x, the constants and the weights: also its dropout masks must be the same again
 */
export function recomputed<Input extends tf.Tensor, Constant extends tf.Tensor, Value extends tf.Tensor>(
  x: Input,
  constants: readonly Constant[],
  weights: readonly tf.Tensor[],
  compute: (x: Input, constants: readonly Constant[]) => Value,
): Value {
  return differentiable<Value>([x, ...weights], () => ({
    value: compute(x, constants),
    saved: [x, ...constants],
    backward(dy, saved) {
      const [x, ...constants] = saved as [Input, ...Constant[]];
      const inputs = [x, ...weights];
      const sums = new Map<number, tf.Tensor>();
      backpropagate(() => compute(x, constants), new Map(inputs.entries()), dy, sums).dispose();
      return inputs.map((input, index) => sums.get(index) ?? tf.zerosLike(input));
    },
  }));
}
