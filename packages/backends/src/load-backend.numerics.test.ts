import * as tf from "@tensorflow/tfjs";
import { expect, test } from "vitest";
import { loadBackend } from "./load-backend.js";
import { reportBackends } from "./report-backends.js";
import { verifyBackend } from "./verify.js";

const name = process.env.ESPALIER_BACKEND!;
const threads = name === "wasm" ? 1 : 2; // TensorFlow.js starts no threads for WebAssembly under Node
const said: string[] = [];
const engine = await loadBackend({ threads: 2, log: (line) => said.push(line) });

test("the environment chooses the engine, and it tells what it is", async () => {
  expect(engine.name).toBe(name);
  expect(tf.getBackend()).toBe(name);
  expect(engine.threads).toBe(threads);
  expect(engine.device).toMatch(/^cpu$|^cuda:\d$/);
  expect(engine.version).toMatch(/^(torch|tensorflow|tfjs-backend-wasm) \d+\.\d+/);
  expect(said.at(-1)).toContain(
    `backend ${name}: ${engine.version} on ${engine.device}, ${threads === 1 ? "1 thread" : "2 threads"}; asked for: `,
  );
  const report = (await reportBackends()).find((entry) => entry.name === name);
  expect(report).toMatchObject({ usable: true, version: engine.version });
});

test("loading is idempotent, and refuses what it cannot change any more", async () => {
  expect(await loadBackend({ backend: name })).toBe(engine);
  expect(await loadBackend({ backend: "auto", device: engine.device, threads: 2 })).toBe(engine);
  await expect(loadBackend({ threads: 1 })).rejects.toMatchObject({
    code: "ESPALIER_BACKENDS_ALREADY_LOADED",
  });
  await expect(loadBackend({ device: "cuda:7" })).rejects.toMatchObject({
    code: "ESPALIER_BACKENDS_ALREADY_LOADED",
  });
});

// nothing to keep apart where the engine of this process is no native one
if (name !== "wasm") {
  test("the other native engine stays out of this process", async () => {
    const other = name === "libtorch" ? "tensorflow" : "libtorch";
    await expect(loadBackend({ backend: other })).rejects.toMatchObject({
      code: "ESPALIER_BACKENDS_SECOND_NATIVE",
      message: expect.stringContaining(`beside ${name}`),
    });
    expect(tf.findBackendFactory(other)).toBeFalsy();
  });
}

test("it trains: gradient descent finds the weights of a linear model", async () => {
  const before = tf.memory().numTensors;
  const { inputs, targets, weights } = tf.tidy(() => {
    const x = tf.tensor2d([1, 2, 0, 1, -1, 1, 2, 0.5, 0, -1, 1, 0, 3, 1, -2], [5, 3]);
    return {
      inputs: x,
      targets: tf.matMul(x, tf.tensor2d([1, -2, 3], [3, 1])),
      weights: tf.variable(tf.zeros([3, 1])),
    };
  });
  let loss = Number.NaN;
  for (let step = 0; step < 400; step++) {
    loss = tf.tidy(() => {
      const { value, grads } = tf.variableGrads(
        () => tf.matMul(inputs, weights).sub(targets).square().mean().asScalar(),
        [weights],
      );
      weights.assign(weights.sub(grads[weights.name]!.mul(0.1)) as tf.Tensor2D);
      return value.dataSync()[0]!;
    });
  }
  expect(loss).toBeLessThan(1e-9);
  const found = await weights.data();
  for (const [index, value] of [1, -2, 3].entries()) expect(found[index]).toBeCloseTo(value, 4);
  tf.dispose([inputs, targets, weights]);
  expect(tf.memory().numTensors).toBe(before);
});

test("the check of an engine leaves no tensor behind", async () => {
  const before = tf.memory().numTensors;
  await verifyBackend(name);
  expect(tf.memory().numTensors).toBe(before);
});
