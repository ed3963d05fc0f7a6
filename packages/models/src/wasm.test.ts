import { loadBackend } from "@espalier/backends";
import { type ModelConfig, type ParameterState, stream } from "@espalier/core";
import { adamW, clipByGlobalNorm, globalNorm, softmaxCrossEntropy } from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { bert } from "./bert.js";
import { gpt2 } from "./gpt2.js";

const config: ModelConfig = {
  family: "",
  depth: 2,
  hiddenSize: 16,
  attentionHeads: 2,
  intermediateSize: 32,
  vocabSize: 19,
  maxPositions: 8,
  dropout: 0.1,
  layerNormEpsilon: 1e-5,
  initializerRange: 0.05,
  tokenTypes: 2,
};

// The engine that lacks most kernels: every operation runs composed here.
describe.each([bert, gpt2])("$name on wasm", (family) => {
  beforeAll(async () => {
    await loadBackend({ backend: "wasm" });
  });

  it("learns a batch by heart, with dropout, and leaves no tensor behind", () => {
    const specs = family.parameters(config);
    const states = specs.map(({ shape, initializer }, index): ParameterState => {
      const size = shape.reduce((product, axis) => product * axis, 1);
      const constant = initializer.kind === "ones" ? tf.ones([...shape]) : tf.zeros([...shape]);
      const deviation = initializer.kind === "normal" ? initializer.deviation : 0;
      return {
        weight: tf.tidy(() =>
          tf
            .tensor(stream(1).fork(index).normals(size), [...shape])
            .mul(deviation)
            .add(constant),
        ),
        firstMoment: tf.zeros([...shape]),
        secondMoment: tf.zeros([...shape]),
        stepCount: tf.scalar(0),
      };
    });
    const input = {
      inputIds: tf.tensor2d([[1, 2, 3, 4, 5, 6, 7, 8]], undefined, "int32"),
      attentionMask: tf.tensor2d([[1, 1, 1, 1, 1, 1, 1, 0]]),
      countedPositions: tf.tensor1d([0, 2, 4, 5], "int32"),
    };
    const labels = tf.tensor1d([9, 11, 18, 0], "int32");
    const step = (index: number) => {
      const options = { layerMap: [0, 1, 1], dropout: stream(2).fork(index) };
      const { value, grads } = tf.valueAndGrads((...weights) => {
        const parameters = new Map(specs.map(({ name }, at) => [name, weights[at]!]));
        return softmaxCrossEntropy(family.forward(parameters, config, input, options), labels);
      })(states.map(({ weight }) => weight));
      const norm = globalNorm(grads);
      clipByGlobalNorm(grads, norm, 1);
      const updates = specs.map(({ name, decay }, at) => ({
        name,
        decay,
        state: states[at]!,
        gradient: grads[at]!,
      }));
      adamW(updates, { learningRate: 0.02, weightDecay: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 });
      const loss = value.dataSync()[0]!;
      tf.dispose([value, norm, grads]);
      return loss;
    };
    const first = step(0);
    expect(Math.abs(first - Math.log(19))).toBeLessThan(0.5);
    const before = tf.memory().numTensors;
    let last = first;
    for (let index = 1; index < 25; index++) last = step(index);
    expect(last).toBeLessThan(first / 2);
    expect(tf.memory().numTensors).toBe(before);
  });
});
