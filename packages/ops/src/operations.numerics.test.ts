import { loadBackend } from "@espalier/backends";
import { stream } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { attention, packedAttention, paddingMask } from "./attention.js";
import { dropout } from "./dropout.js";
import { addPositions, addRow, embedding, gatherRows } from "./embedding.js";
import { gelu } from "./gelu.js";
import { withoutFusedKernels } from "./kernel.js";
import { layerNorm } from "./layer-norm.js";
import { linear } from "./linear.js";
import { addResidual } from "./residual.js";
import { softmaxCrossEntropy } from "./softmax-cross-entropy.js";

beforeAll(async () => {
  await loadBackend({ backend: process.env.ESPALIER_BACKEND });
});

type Operation = (...inputs: tf.Tensor[]) => tf.Tensor;

/** An operation, and its definition in plain TensorFlow.js, which differentiates that by itself. */
interface Case {
  readonly name: string;
  /** Shapes of the inputs that get a gradient. */
  readonly shapes: readonly (readonly number[])[];
  readonly operation: Operation;
  readonly definition: Operation;
}

const as2d = (tensor: tf.Tensor | undefined) => tensor as tf.Tensor2D;
const as1d = (tensor: tf.Tensor | undefined) => tensor as tf.Tensor1D;
const ints = (...values: number[]) => tf.tensor1d(values, "int32");

function plainLayerNorm(x: tf.Tensor, gain: tf.Tensor, bias: tf.Tensor, epsilon: number): tf.Tensor {
  const { mean, variance } = tf.moments(x, -1, true);
  return x.sub(mean).div(variance.add(epsilon).sqrt()).mul(gain).add(bias);
}

function plainAttention(
  [query, key, value]: readonly tf.Tensor[],
  sequenceLength: number,
  heads: number,
  hidden: tf.Tensor | null,
): tf.Tensor {
  const split = (tensor: tf.Tensor) => {
    const [rows, width] = tensor.shape as [number, number];
    return tensor
      .reshape([rows / sequenceLength, sequenceLength, heads, width / heads])
      .transpose([0, 2, 1, 3]);
  };
  const channels = query!.shape[1]! / heads;
  let scores = tf.matMul(split(query!), split(key!), false, true).div(Math.sqrt(channels));
  if (hidden) scores = scores.sub(hidden.mul(1e9));
  return tf.matMul(tf.softmax(scores), split(value!)).transpose([0, 2, 1, 3]).reshape(query!.shape);
}

/** 1 where a key is hidden from a query, `[batch, 1, seq, seq]`. */
function hiddenKeys(attentionMask: readonly number[][] | null, batch: number, seq: number, causal: boolean) {
  const values = Array.from({ length: batch }, (_, row) =>
    Array.from({ length: seq }, (_, query) =>
      Array.from({ length: seq }, (_, key) =>
        (causal && key > query) || attentionMask?.[row]?.[key] === 0 ? 1 : 0,
      ),
    ),
  );
  return tf.tensor4d(values.map((matrix) => [matrix]));
}

function attentionCase(name: string, masked: boolean, causal: boolean, packed: boolean): Case {
  const [batch, seq, heads, width] = [2, 5, 3, 12];
  const visible = masked
    ? [
        [1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0],
      ]
    : null;
  const options = () => ({
    sequenceLength: seq,
    heads,
    causal,
    mask: visible ? paddingMask(tf.tensor2d(visible)) : null,
    dropout: null,
  });
  const hidden = () => (visible || causal ? hiddenKeys(visible, batch, seq, causal) : null);
  const rows = batch * seq;
  if (packed)
    return {
      name,
      shapes: [[rows, 3 * width]],
      operation: (qkv) => packedAttention(as2d(qkv), options()),
      definition: (qkv) => plainAttention(tf.split(qkv!, 3, 1), seq, heads, hidden()),
    };
  return {
    name,
    shapes: [
      [rows, width],
      [rows, width],
      [rows, width],
    ],
    operation: (q, k, v) => attention(as2d(q), as2d(k), as2d(v), options()),
    definition: (...qkv) => plainAttention(qkv, seq, heads, hidden()),
  };
}

const labels = [3, 0, 6, 6, 1];

const cases: readonly Case[] = [
  {
    name: "linear, [in, out], with bias",
    shapes: [[5, 4], [4, 3], [3]],
    operation: (x, w, b) => linear(as2d(x), as2d(w), as1d(b), "in_out"),
    definition: (x, w, b) => tf.matMul(x!, w!).add(b!),
  },
  {
    name: "linear, [out, in], with bias",
    shapes: [[5, 4], [3, 4], [3]],
    operation: (x, w, b) => linear(as2d(x), as2d(w), as1d(b), "out_in"),
    definition: (x, w, b) => tf.matMul(x!, w!, false, true).add(b!),
  },
  {
    name: "linear, [in, out], without bias",
    shapes: [
      [5, 4],
      [4, 3],
    ],
    operation: (x, w) => linear(as2d(x), as2d(w), null, "in_out"),
    definition: (x, w) => tf.matMul(x!, w!),
  },
  {
    name: "linear, [out, in], without bias",
    shapes: [
      [5, 4],
      [3, 4],
    ],
    operation: (x, w) => linear(as2d(x), as2d(w), null, "out_in"),
    definition: (x, w) => tf.matMul(x!, w!, false, true),
  },
  {
    name: "layer norm",
    shapes: [[5, 8], [8], [8]],
    operation: (x, gain, bias) => layerNorm(as2d(x), as1d(gain), as1d(bias), 1e-5),
    definition: (x, gain, bias) => plainLayerNorm(x!, gain!, bias!, 1e-5),
  },
  {
    name: "exact GELU",
    shapes: [[4, 7]],
    operation: (x) => gelu(as2d(x), "none"),
    definition: (x) => x!.div(Math.sqrt(2)).erf().add(1).mul(x!).div(2),
  },
  {
    name: "tanh GELU",
    shapes: [[4, 7]],
    operation: (x) => gelu(as2d(x), "tanh"),
    definition: (x) =>
      x!
        .pow(3)
        .mul(0.044715)
        .add(x!)
        .mul(Math.sqrt(2 / Math.PI))
        .tanh()
        .add(1)
        .mul(x!)
        .div(2),
  },
  attentionCase("attention", false, false, false),
  attentionCase("attention, padded", true, false, false),
  attentionCase("attention, causal", false, true, false),
  attentionCase("packed attention", false, false, true),
  attentionCase("packed attention, causal", false, true, true),
  attentionCase("packed attention, padded and causal", true, true, true),
  {
    name: "embedding",
    shapes: [[6, 3]],
    operation: (table) => embedding(as2d(table), ints(5, 0, 0, 2, 5, 5)),
    definition: (table) => tf.gather(table!, ints(5, 0, 0, 2, 5, 5)),
  },
  {
    name: "rows at counted positions",
    shapes: [[6, 3]],
    operation: (x) => gatherRows(as2d(x), ints(1, 2, 5)),
    definition: (x) => tf.gather(x!, ints(1, 2, 5)),
  },
  {
    name: "positions",
    shapes: [
      [6, 4],
      [5, 4],
    ],
    operation: (x, table) => addPositions(as2d(x), as2d(table), 3),
    definition: (x, table) => x!.add(tf.gather(table!, ints(0, 1, 2, 0, 1, 2))),
  },
  {
    name: "one row of a table for all",
    shapes: [
      [6, 4],
      [3, 4],
    ],
    operation: (x, table) => addRow(as2d(x), as2d(table), 1),
    definition: (x, table) => x!.add(tf.gather(table!, ints(1))),
  },
  {
    name: "residual",
    shapes: [
      [3, 4],
      [3, 4],
    ],
    operation: (x, branch) => addResidual(as2d(x), as2d(branch)),
    definition: (x, branch) => x!.add(branch!),
  },
  {
    name: "softmax cross entropy",
    shapes: [[5, 7]],
    operation: (logits) => softmaxCrossEntropy(as2d(logits), ints(...labels)),
    definition: (logits) =>
      tf
        .logSoftmax(logits!)
        .mul(tf.oneHot(ints(...labels), 7))
        .sum()
        .div(-5),
  },
];

function randomInputs(shapes: readonly (readonly number[])[]): tf.Tensor[] {
  return shapes.map((shape, index) => {
    const size = shape.reduce((product, axis) => product * axis, 1);
    return tf.tensor(stream(17).fork(index).normals(size), [...shape]);
  });
}

/** A fixed, uneven weighting of the output, so that every element's gradient is told apart. */
function weighted(output: tf.Tensor): tf.Scalar {
  const weights = tf.tensor(stream(23).normals(output.size), output.shape);
  return output.mul(weights).sum();
}

function valueAndGradients(
  operation: Operation,
  inputs: tf.Tensor[],
): { value: number[]; grads: number[][] } {
  return tf.tidy(() => ({
    value: [...operation(...inputs).dataSync()],
    grads: tf
      .grads((...given) => weighted(operation(...given)))(inputs)
      .map((gradient) => [...gradient.dataSync()]),
  }));
}

function expectClose(actual: readonly number[], expected: readonly number[], tolerance: number): void {
  expect(actual.length).toBe(expected.length);
  const scale = Math.max(1, ...expected.map(Math.abs));
  const worst = Math.max(...actual.map((value, index) => Math.abs(value - expected[index]!)));
  expect(worst / scale).toBeLessThan(tolerance);
}

describe.each(cases)("$name", ({ shapes, operation, definition }) => {
  it("has the value and the gradients of its definition", () => {
    const inputs = randomInputs(shapes);
    const ours = valueAndGradients(operation, inputs);
    const plain = valueAndGradients(definition, inputs);
    expectClose(ours.value, plain.value, 2e-6);
    for (const [index, gradient] of ours.grads.entries()) expectClose(gradient, plain.grads[index]!, 5e-6);
    tf.dispose(inputs);
  });

  it("is the same composed of plain operations", () => {
    const inputs = randomInputs(shapes);
    const ours = valueAndGradients(operation, inputs);
    const composed = withoutFusedKernels(() => valueAndGradients(operation, inputs));
    expectClose(ours.value, composed.value, 2e-6);
    for (const [index, gradient] of ours.grads.entries()) expectClose(gradient, composed.grads[index]!, 5e-6);
    tf.dispose(inputs);
  });

  it("has the gradient that finite differences give", () => {
    const inputs = randomInputs(shapes);
    const { grads } = valueAndGradients(operation, inputs);
    const h = 1e-2;
    for (const [index, gradient] of grads.entries()) {
      const direction = stream(29).fork(index).normals(gradient.length);
      const moved = (sign: number) =>
        tf.tidy(() => {
          const shift = tf.tensor(direction, inputs[index]!.shape).mul(sign * h);
          const given = inputs.with(index, inputs[index]!.add(shift));
          return weighted(operation(...given)).dataSync()[0]!;
        });
      const measured = (moved(1) - moved(-1)) / (2 * h);
      const predicted = gradient.reduce((sum, value, at) => sum + value * direction[at]!, 0);
      expect(Math.abs(measured - predicted)).toBeLessThan(5e-3 * Math.max(1, Math.abs(predicted)));
    }
    tf.dispose(inputs);
  });

  it("leaves no tensor behind", () => {
    const before = tf.memory().numTensors;
    const inputs = randomInputs(shapes);
    const output = tf.tidy(() => operation(...inputs));
    expect(tf.memory().numTensors).toBe(before + inputs.length + 1);
    const grads = tf.grads((...given) => weighted(operation(...given)))(inputs);
    expect(tf.memory().numTensors).toBe(before + 2 * inputs.length + 1);
    expect(inputs.every((input) => !input.isDisposed)).toBe(true);
    tf.dispose([inputs, grads, output]);
    expect(tf.memory().numTensors).toBe(before);
  });
});

describe("gradients that the caller passes in", () => {
  it("stay the caller's", () => {
    const [x, dy] = [tf.ones<tf.Rank.R2>([2, 3]), tf.ones<tf.Rank.R2>([2, 3])];
    const gradient = tf.grad((given: tf.Tensor) => gelu(as2d(given), "none"))(x, dy);
    expect(dy.isDisposed).toBe(false);
    tf.dispose([x, dy, gradient]);
  });
});

describe("padding in an embedding", () => {
  it("gets no gradient", () => {
    const gradient = tf.tidy(() => {
      const table = tf.ones<tf.Rank.R2>([4, 2]);
      return tf
        .grad((given: tf.Tensor) => embedding(as2d(given), ints(0, 3, 1, 0, 3), 0).sum())(table)
        .arraySync();
    });
    expect(gradient).toEqual([
      [0, 0],
      [1, 1],
      [0, 0],
      [2, 2],
    ]);
  });
});

describe("padding on the left of a causal model", () => {
  it("gives numbers, not NaN", () => {
    const values = tf.tidy(() => {
      const [q, k, v] = randomInputs([
        [4, 6],
        [4, 6],
        [4, 6],
      ]);
      const mask = paddingMask(tf.tensor2d([[0, 0, 1, 1]]));
      const options = { sequenceLength: 4, heads: 2, causal: true, mask, dropout: null };
      return attention(as2d(q), as2d(k), as2d(v), options).dataSync();
    });
    expect([...values].every(Number.isFinite)).toBe(true);
  });
});

describe("dropout", () => {
  const rate = 0.3;

  it("drops with its rate, scales the rest, and is a function of the seed", () => {
    tf.tidy(() => {
      const x = tf.ones([200, 100]);
      const [first, again, other] = [7, 7, 8].map((seed) => [...dropout(x, rate, seed).dataSync()]);
      expect(again).toEqual(first);
      expect(other).not.toEqual(first);
      const dropped = first!.filter((value) => value === 0).length / first!.length;
      // Five standard deviations of a share of 20 000.
      expect(Math.abs(dropped - rate)).toBeLessThan(5 * Math.sqrt((rate * (1 - rate)) / 20_000));
      for (const value of first!) if (value !== 0) expect(value).toBeCloseTo(1 / (1 - rate), 5);
      const both = first!.filter((value, index) => value === 0 && other![index] === 0).length / first!.length;
      expect(Math.abs(both - rate * rate)).toBeLessThan(0.015);
    });
  });

  it("passes the gradient where it passed the value", () => {
    tf.tidy(() => {
      const x = tf.ones([50, 20]);
      const value = dropout(x, rate, 5).dataSync();
      const gradient = tf
        .grad((given: tf.Tensor) => dropout(given, rate, 5).sum())(x)
        .dataSync();
      expect([...gradient]).toEqual([...value]);
    });
  });

  it("is no operation at rate 0", () => {
    const x = tf.ones([2]);
    expect(dropout(x, 0, 1)).toBe(x);
    x.dispose();
  });

  it("on attention has the gradient of its own masks", () => {
    const shape = [8, 6];
    const inputs = randomInputs([shape, shape, shape]);
    const options = { sequenceLength: 4, heads: 2, causal: true, mask: null, dropout: { rate, seed: 9 } };
    const operation: Operation = (q, k, v) => attention(as2d(q), as2d(k), as2d(v), options);
    const { grads, value } = valueAndGradients(operation, inputs);
    expect(valueAndGradients(operation, inputs).value).toEqual(value);
    for (const [index, gradient] of grads.entries()) {
      const direction = stream(31).fork(index).normals(gradient.length);
      const moved = (amount: number) =>
        tf.tidy(() => {
          const shift = tf.tensor(direction, shape).mul(amount);
          return weighted(operation(...inputs.with(index, inputs[index]!.add(shift)))).dataSync()[0]!;
        });
      const measured = (moved(1e-2) - moved(-1e-2)) / 2e-2;
      const predicted = gradient.reduce((sum, one, at) => sum + one * direction[at]!, 0);
      expect(Math.abs(measured - predicted)).toBeLessThan(5e-3 * Math.max(1, Math.abs(predicted)));
    }
    tf.dispose(inputs);
  });
});
