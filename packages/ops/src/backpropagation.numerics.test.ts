import { loadBackend } from "@espalier/backends";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { backpropagate } from "./backpropagation.js";
import { embedding, gatherRows } from "./embedding.js";
import { layerNorm } from "./layer-norm.js";
import { linear } from "./linear.js";
import { addResidual } from "./residual.js";
import { softmaxCrossEntropy } from "./softmax-cross-entropy.js";

beforeAll(() => loadBackend({ backend: process.env.ESPALIER_BACKEND ?? "libtorch", threads: 1 }));

let x: tf.Tensor2D;
let y: tf.Tensor2D;
let v: tf.Tensor1D;
beforeEach(() => {
  x = tf.randomNormal([3, 4], 0, 1, "float32", 1);
  y = tf.randomNormal([3, 4], 0, 1, "float32", 2);
  v = tf.randomNormal([4], 0, 1, "float32", 3);
  return () => tf.dispose([x, y, v]);
});

/** Tensors and native handles that are alive. */
function alive(): object {
  const { numTensors, ...engine } = tf.memory();
  return { numTensors, handles: (engine as { nativeHandles?: number }).nativeHandles };
}

type Function3 = (x: tf.Tensor2D, y: tf.Tensor2D, v: tf.Tensor1D) => tf.Tensor;

// What a plugin may write: plain operations, with one and several outputs, broadcasting, tensors that are used again,
// gradients that are the incoming one itself, and our own operations between them.
const functions: readonly (readonly [name: string, f: Function3])[] = [
  ["the sum of its inputs", (x, y, v) => x.add(y).add(v)],
  ["one input twice", (x, y) => x.add(x).mul(y)],
  ["broadcasting", (x, y, v) => x.mul(v).sub(y.div(v.square().add(1)))],
  ["products", (x, y) => tf.matMul(x, y, true).matMul(y, false, true)],
  ["softmax and logarithm", (x, y, v) => tf.softmax(x.mul(v)).mul(tf.logSoftmax(y))],
  [
    "several outputs",
    (x, y) => tf.addN(tf.split(x, 2, 1)).concat(tf.unstack(y)[1]!.reshape([1, 4]).tile([3, 1]), 1),
  ],
  ["one of several outputs", (x) => tf.split(x.tanh(), 2, 1)[1]!.exp()],
  [
    "shapes",
    (x, y) =>
      x
        .reshape([2, 6])
        .transpose()
        .slice([1, 0], [4, 2])
        .pad([
          [0, 1],
          [1, 0],
        ])
        .add(y.sum()),
  ],
  [
    "choices",
    (x, y) =>
      tf
        .where(tf.tensor2d([[1, 0, 0, 1]], [1, 4], "bool").tile([3, 1]), x.mul(y), y.abs())
        .clipByValue(-1, 1),
  ],
  ["reductions", (x, y, v) => x.mean(0).mul(v).add(y.max(0)).norm().add(tf.cumsum(x, 1).prod())],
  [
    "lookups",
    (x) => tf.gather(x, tf.tensor1d([2, 0, 2], "int32")).mul(tf.oneHot(tf.tensor1d([0, 1, 3], "int32"), 4)),
  ],
  ["a copy of an input", (x) => x.clone()],
  [
    "ours among them",
    (x, y, v) => {
      const hidden = addResidual(x, linear(layerNorm(x, v, v, 1e-5), tf.matMul(y, y, true), v, "in_out"));
      const logits = linear(gatherRows(hidden.relu(), tf.tensor1d([0, 2, 2], "int32")), y, null, "out_in");
      return softmaxCrossEntropy(logits, tf.tensor1d([1, 0, 2], "int32"));
    },
  ],
  [
    "a tied embedding",
    (x, _, v) => {
      const words = embedding(x, tf.tensor1d([1, 1, 0, 2], "int32"));
      return softmaxCrossEntropy(linear(words.mul(v), x, null, "out_in"), tf.tensor1d([0, 1, 2, 2], "int32"));
    },
  ],
  [
    "a gradient within",
    (x, y) =>
      tf
        .grad((x) => x.pow(3).mul(y))(x)
        .mul(y) as tf.Tensor2D,
  ],
];

describe("backpropagate", () => {
  it.each(functions)("agrees with TensorFlow.js's own walk: %s", async (_, f) => {
    const before = alive();
    const sums = new Map<string, tf.Tensor>();
    const variables = new Map<string, tf.Tensor>([
      ["x", x],
      ["y", y],
      ["v", v],
    ]);
    const [value, dy] = tf.tidy(() => [f(x, y, v), tf.cos(f(x, y, v))]);
    const result = backpropagate(() => f(x, y, v), variables, dy, sums);
    expect(await difference(result, value)).toBe(0);
    const { value: theirs, grads } = tf.engine().gradients(() => f(x, y, v), [x, y, v], dy, true);
    for (const [index, key] of [...variables.keys()].entries()) {
      const expected = (grads as (tf.Tensor | null | undefined)[])[index];
      expect(sums.has(key)).toBe(Boolean(expected));
      if (expected) expect(await difference(sums.get(key)!, expected)).toBeLessThan(1e-5);
    }
    tf.dispose([value, theirs, dy, result, grads.filter(Boolean), ...sums.values()]);
    expect(alive()).toEqual(before);
  });

  it("adds to the sums that are there, to what shares memory with them as little as to anything else", async () => {
    const sums = new Map<string, tf.Tensor>();
    const variables = new Map([["x", x]]);
    const one = tf.scalar(1);
    const loss = () => x.square().sum<tf.Scalar>();
    backpropagate(loss, variables, one, sums).dispose();
    const first = sums.get("x")!;
    const alias = first.reshape([12]);
    const before = await alias.data();
    backpropagate(loss, variables, one, sums).dispose();
    expect(
      await difference(
        sums.get("x")!,
        tf.tidy(() => x.mul(4)),
      ),
    ).toBeLessThan(1e-5);
    expect(await alias.data()).toEqual(before);
    tf.dispose([one, alias, ...sums.values()]);
  });

  it("gives the same bits again", async () => {
    const gradientOf = async () => {
      const sums = new Map<string, tf.Tensor>();
      const one = tf.scalar(1);
      const shared = () => {
        let hidden: tf.Tensor = x;
        for (let layer = 0; layer < 5; layer++)
          hidden = hidden.matMul(tf.softmax(tf.matMul(y, y, true))).tanh();
        return hidden.mul(y).sum<tf.Scalar>();
      };
      backpropagate(shared, new Map([["y", y]]), one, sums).dispose();
      const values = await sums.get("y")!.data();
      tf.dispose([one, ...sums.values()]);
      return values;
    };
    expect(await gradientOf()).toEqual(await gradientOf());
  });

  it("frees plain operations' tensors as it goes, where TensorFlow.js's own walk keeps them to its end", () => {
    const bytesAtTheBeginning = (walk: (f: () => tf.Scalar, input: tf.Tensor) => void): number => {
      let bytes = 0;
      // The first node of the forward pass is the last of the backward pass.
      const mark = tf.customGrad((input) => ({
        value: (input as tf.Tensor).clone(),
        gradFunc: (dy: tf.Tensor) => {
          bytes = tf.memory().numBytes;
          return dy.clone();
        },
      }));
      const input = tf.ones([64, 64]);
      const before = tf.memory().numBytes;
      walk(() => {
        let hidden: tf.Tensor = mark(input);
        for (let step = 0; step < 20; step++) hidden = hidden.square().mul(0.9).add(0.01);
        return hidden.sum();
      }, input);
      input.dispose();
      return (bytes - before) / (4 * 64 * 64);
    };
    const theirs = bytesAtTheBeginning((f, input) =>
      tf.dispose(Object.values(tf.valueAndGrads(f)([input])).flat()),
    );
    const ours = bytesAtTheBeginning((f, input) => {
      const [one, sums] = [tf.scalar(1), new Map<string, tf.Tensor>()];
      const value = backpropagate(f, new Map([["input", input]]), one, sums);
      tf.dispose([one, value, ...sums.values()]);
    });
    expect(theirs).toBeGreaterThan(20);
    expect(ours).toBeLessThan(3);
  });

  it("frees what was recorded when something throws on the way", () => {
    const before = alive();
    const one = tf.scalar(1);
    const failing = () => {
      tf.matMul(x, y, true).square();
      throw new Error("in the middle");
    };
    expect(() => backpropagate(failing, new Map([["x", x]]), one, new Map())).toThrow("in the middle");
    const withoutGradient = () => tf.tidy(() => tf.topk(x.square(), 1).values.sum<tf.Scalar>());
    expect(() => backpropagate(withoutGradient, new Map([["x", x]]), one, new Map())).toThrow(
      "has none for TopK",
    );
    one.dispose();
    expect(alive()).toEqual(before);
  });
});

/** The largest difference between two tensors' elements, relative to 1. */
async function difference(a: tf.Tensor, b: tf.Tensor): Promise<number> {
  expect(a.shape).toEqual(b.shape);
  const [one, other] = [await a.data(), await b.data()];
  return Math.max(
    ...one.map((value, index) => Math.abs(value - other[index]!) / Math.max(1, Math.abs(value))),
  );
}
