// The matrix products of a training step: their FLOPs, and their shapes for measuring the machine's rate with them.
import { executedLayers } from "./cases.mjs";

/**
 * Every product of one step with how often it runs, forward and backward; `a` is `[m, k]`, `b` `[k, n]`. Together they
 * are the FLOPs of the models' cost model: 2·m·n·k each, the head on the counted positions only, causal attention in
 * full.
 */
export function stepProducts(model, precision) {
  const { family, hidden, heads, vocabulary, batch, sequence } = model;
  const positions = batch * sequence;
  const counted =
    family === "bert" ? batch * Math.max(1, Math.round(0.15 * sequence)) : batch * (sequence - 1);
  const layers = executedLayers(model);
  const product = (m, n, k, count, more = {}) => ({
    batch: 1,
    m,
    n,
    k,
    transposeA: false,
    transposeB: false,
    count,
    precision,
    ...more,
  });
  // y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x
  const linear = (rows, outputs, inputs, count) => [
    product(rows, outputs, inputs, count, { transposeB: true }),
    product(rows, inputs, outputs, count),
    product(outputs, inputs, rows, count, { transposeA: true }),
  ];
  const channels = hidden / heads;
  const perHead = { batch: batch * heads };
  // Scores and their gradient, the weighted sum of the values, and the gradients of q, k and v.
  const attention = [
    product(sequence, sequence, channels, 2 * layers, { ...perHead, transposeB: true }),
    product(sequence, channels, sequence, 2 * layers, perHead),
    product(sequence, channels, sequence, 2 * layers, { ...perHead, transposeA: true }),
  ];
  return [
    ...linear(positions, 3 * hidden, hidden, layers),
    ...linear(positions, hidden, hidden, layers),
    ...linear(positions, 4 * hidden, hidden, layers),
    ...linear(positions, hidden, 4 * hidden, layers),
    ...attention,
    ...(family === "bert" ? linear(counted, hidden, hidden, 1) : []),
    ...linear(counted, vocabulary, hidden, 1),
  ];
}

/** FLOPs of all products of a list. */
export function flopsOf(products) {
  return products.reduce((sum, { batch, m, n, k, count }) => sum + 2 * batch * m * n * k * count, 0);
}

/** Seconds of a step that did nothing but its products, each as fast as it was measured alone. */
export function floorSeconds(products, seconds) {
  return products.reduce((sum, { count }, index) => sum + count * seconds[index], 0);
}
