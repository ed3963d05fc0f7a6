import * as tf from "@tensorflow/tfjs";
import { beforeAll, expect, it } from "vitest";
import { loadBackend } from "./load-backend.js";

/** The losses that tfjs-node on TensorFlow 2.18 gives; both native engines are held to them. */
const EXPECTED = {
  dense: [0.7294937, 0.4533131, 0.3741093, 0.322774, 0.3041083, 0.2795989],
  convolution: [1.1502273, 0.9994253, 0.8935401, 0.8063698, 0.7272582, 0.6572109],
};

/** Float32 sums in another order move a loss by less than this over a few epochs. */
const TOLERANCE = 1e-4;

beforeAll(async () => {
  await loadBackend({ backend: process.env.ESPALIER_BACKEND });
});

function uniform(seed: number): ReturnType<typeof tf.initializers.glorotUniform> {
  return tf.initializers.glorotUniform({ seed });
}

async function losses(model: tf.LayersModel, x: tf.Tensor, y: tf.Tensor, epochs: number): Promise<number[]> {
  const before = tf.memory().numTensors;
  const { history } = await model.fit(x, y, { epochs, batchSize: 16, shuffle: false, verbose: 0 });
  // The optimizer keeps its moments, nothing else stays.
  expect(tf.memory().numTensors - before).toBeLessThanOrEqual(2 * model.weights.length + 4);
  return history.loss as number[];
}

it("trains a network of dense layers to tfjs-node's losses", async () => {
  const x = tf.randomNormal([64, 8], 0, 1, "float32", 11);
  const y = tf.sin(x.sum(1, true));
  const model = tf.sequential();
  model.add(
    tf.layers.dense({ inputShape: [8], units: 32, activation: "tanh", kernelInitializer: uniform(1) }),
  );
  model.add(tf.layers.dense({ units: 16, activation: "relu", kernelInitializer: uniform(2) }));
  model.add(tf.layers.dense({ units: 1, kernelInitializer: uniform(3) }));
  model.compile({ optimizer: tf.train.adam(0.01), loss: "meanSquaredError" });
  const found = await losses(model, x, y, 6);
  expect(found[5]).toBeLessThan(found[0] as number);
  found.forEach((loss, epoch) => {
    expect(Math.abs(loss - (EXPECTED.dense[epoch] as number))).toBeLessThan(TOLERANCE);
  });
});

// TensorFlow.js's wasm engine has no gradient of a convolution.
it.runIf(process.env.ESPALIER_BACKEND !== "wasm")(
  "trains convolution, pooling and batch normalisation to tfjs-node's losses",
  async () => {
    const x = tf.randomNormal([48, 12, 12, 1], 0, 1, "float32", 12);
    const labels = tf.oneHot(tf.range(0, 48, 1, "int32").mod(tf.scalar(3, "int32")) as tf.Tensor1D, 3);
    const model = tf.sequential();
    model.add(
      tf.layers.conv2d({
        inputShape: [12, 12, 1],
        filters: 8,
        kernelSize: 3,
        padding: "same",
        activation: "relu",
        kernelInitializer: uniform(4),
      }),
    );
    model.add(tf.layers.maxPooling2d({ poolSize: 2 }));
    model.add(
      tf.layers.conv2d({
        filters: 16,
        kernelSize: 3,
        strides: 2,
        padding: "same",
        kernelInitializer: uniform(5),
      }),
    );
    model.add(tf.layers.batchNormalization());
    model.add(tf.layers.activation({ activation: "relu" }));
    model.add(tf.layers.averagePooling2d({ poolSize: 2, strides: 1, padding: "same" }));
    model.add(tf.layers.flatten());
    model.add(tf.layers.dense({ units: 3, activation: "softmax", kernelInitializer: uniform(6) }));
    model.compile({ optimizer: tf.train.sgd(0.05), loss: "categoricalCrossentropy" });
    const found = await losses(model, x, labels.toFloat(), 6);
    expect(found[5]).toBeLessThan(found[0] as number);
    found.forEach((loss, epoch) => {
      expect(Math.abs(loss - (EXPECTED.convolution[epoch] as number))).toBeLessThan(TOLERANCE);
    });
  },
);
