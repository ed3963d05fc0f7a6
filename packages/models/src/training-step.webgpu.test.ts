import { loadBackend } from "@espalier/backends";
import { type ModelConfig, type ModelFamily, type ParameterState, stream } from "@espalier/core";
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
const layerMap = [0, 1, 1];

/** A tiny model in training on the current engine; nothing is read synchronously. */
class Training {
  private readonly specs;
  private readonly states: ParameterState[];
  private readonly input = {
    inputIds: tf.tensor2d([[1, 2, 3, 4, 5, 6, 7, 8]], undefined, "int32"),
    attentionMask: tf.tensor2d([[1, 1, 1, 1, 1, 1, 1, 0]]),
    countedPositions: tf.tensor1d([0, 2, 4, 5], "int32"),
  };
  private readonly labels = tf.tensor1d([9, 11, 18, 0], "int32");

  constructor(private readonly family: ModelFamily) {
    this.specs = family.parameters(config);
    this.states = this.specs.map(({ shape, initializer }, index) => {
      const size = shape.reduce((product, axis) => product * axis, 1);
      const deviation = initializer.kind === "normal" ? initializer.deviation : 0;
      const constant = initializer.kind === "ones" ? 1 : 0;
      const values = stream(1).fork(index).normals(size);
      return {
        weight: tf.tensor(
          values.map((value) => value * deviation + constant),
          [...shape],
        ),
        firstMoment: tf.zeros([...shape]),
        secondMoment: tf.zeros([...shape]),
        stepCount: tf.scalar(0),
      };
    });
  }

  /** One AdamW step with dropout: the loss before it, and the norm of its gradient. */
  async step(index: number): Promise<{ loss: number; norm: number }> {
    const options = { layerMap, dropout: stream(2).fork(index) };
    const { value, grads } = tf.valueAndGrads((...weights) => {
      const parameters = new Map(this.specs.map(({ name }, at) => [name, weights[at]!]));
      const logits = this.family.forward(parameters, config, this.input, options);
      return softmaxCrossEntropy(logits, this.labels);
    })(this.states.map(({ weight }) => weight));
    const norm = globalNorm(grads);
    clipByGlobalNorm(grads, norm, 1);
    const updates = this.specs.map(({ name, decay }, at) => ({
      name,
      decay,
      state: this.states[at]!,
      gradient: grads[at]!,
    }));
    adamW(updates, { learningRate: 0.02, weightDecay: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 });
    const [loss, length] = await Promise.all([value.data(), norm.data()]);
    tf.dispose([value, norm, grads]);
    return { loss: loss[0]!, norm: length[0]! };
  }

  dispose(): void {
    const { inputIds, attentionMask, countedPositions } = this.input;
    tf.dispose([inputIds, attentionMask, countedPositions, this.labels]);
    for (const { weight, firstMoment, secondMoment, stepCount } of this.states)
      tf.dispose([weight, firstMoment, secondMoment, stepCount]);
  }
}

async function train(family: ModelFamily, steps: number) {
  const training = new Training(family);
  const measured = [];
  const held = [];
  for (let index = 0; index < steps; index++) {
    measured.push(await training.step(index));
    held.push([tf.memory().numTensors, tf.memory().numDataBuffers]);
  }
  training.dispose();
  return { measured, held };
}

describe.each([gpt2, bert])("training $name on webgpu, with shared layers and dropout", (family) => {
  const steps = 4;

  beforeAll(async () => {
    await loadBackend({ backend: "webgpu" });
  });

  it("has the losses and gradient norms of TensorFlow.js's own engine, to 1e-3, and leaves nothing behind", async () => {
    await tf.setBackend("cpu");
    const { measured: expected } = await train(family, steps);
    await tf.setBackend("webgpu");
    const before = tf.memory().numTensors;
    const { measured, held } = await train(family, steps);
    for (const [step, { loss, norm }] of measured.entries()) {
      expect(Math.abs(loss - expected[step]!.loss), `loss of step ${step + 1}`).toBeLessThan(1e-3);
      const error = Math.abs(norm - expected[step]!.norm) / expected[step]!.norm;
      expect(error, `gradient norm of step ${step + 1}`).toBeLessThan(1e-3);
    }
    expect(measured.at(-1)!.loss).toBeLessThan(measured[0]!.loss);
    for (const counts of held) expect(counts).toEqual(held[0]);
    expect(tf.memory().numTensors).toBe(before);
  });
});
