import type { ModelFamily, SequenceData } from "@espalier/core";
import { stream } from "@espalier/core";
import { initializeParameters, weightsOf } from "@espalier/growth";
import { bert, gpt2 } from "@espalier/models";
import { readMetrics } from "@espalier/tracking";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadEngine } from "./engine.test-support.js";
import { differentiate, disposeBatch, type Gradients, toDevice } from "./micro-step.js";
import { realText, runTiny, temporaryFolders, tinyBert, tinyGpt2 } from "./tiny-run.test-support.js";

const folders = temporaryFolders();
let text: SequenceData;
beforeAll(async () => {
  await loadEngine();
  text = await realText();
});
afterAll(() => folders.clean());

describe.each([gpt2, bert])("layers of $name that are recomputed", (family) => {
  it("train with the same losses to the bit: dropout, shared layers, growth, accumulation", async () => {
    const losses = async (recompute: boolean) => {
      const folder = await folders.make();
      await runTiny(folder, text, { family, recompute });
      return (await readMetrics(folder)).map(({ loss, gradientNorm }) => [loss, gradientNorm]);
    };
    expect(await losses(true)).toEqual(await losses(false));
  });

  it("have the same gradients with padding, keep less, and leave nothing behind", async () => {
    const before = tf.memory().numTensors;
    const [plain, again] = [gradientsOf(family, false), gradientsOf(family, true)];
    expect([...again.gradients.keys()].sort()).toEqual([...plain.gradients.keys()].sort());
    for (const [name, gradient] of plain.gradients)
      expect(await again.gradients.get(name)!.data(), name).toEqual(await gradient.data());
    expect(again.kept).toBeLessThan(0.5 * plain.kept);
    tf.dispose([...plain.gradients.values(), ...again.gradients.values()]);
    expect(tf.memory().numTensors).toBe(before);
  });
});

/** Gradients of a padded batch, with the bytes that the forward pass kept for the backward pass. */
function gradientsOf(family: ModelFamily, recompute: boolean): { gradients: Gradients; kept: number } {
  const config = family.causal ? tinyGpt2 : tinyBert;
  const random = stream(7);
  const parameters = initializeParameters(family, config, random);
  const [batchSize, sequenceLength] = [2, 16];
  const positions = batchSize * sequenceLength;
  const batch = toDevice({
    batchSize,
    sequenceLength,
    inputIds: Int32Array.from({ length: positions }, (_, index) => (7 * index) % 128),
    attentionMask: Float32Array.from({ length: positions }, (_, index) => (index % 16 < 12 ? 1 : 0)),
    countedPositions: Int32Array.of(1, 5, 20),
    labels: Int32Array.of(9, 8, 7),
  });
  let kept = 0;
  const measured: ModelFamily = {
    ...family,
    forward(...given) {
      const before = tf.memory().numBytes;
      const logits = family.forward(...given);
      kept = tf.memory().numBytes - before;
      return logits;
    },
  };
  const gradients: Gradients = new Map();
  const loss = differentiate({
    family: measured,
    config,
    weights: weightsOf(parameters),
    trained: family.layout(config.depth).map((place) => place.name),
    batch,
    layerMap: [0, 1, 1, 2, 3, 3],
    dropout: random.fork("dropout"),
    compute: { recompute },
    scale: 1,
    sums: gradients,
  });
  loss.dispose();
  disposeBatch(batch);
  for (const { weight, firstMoment, secondMoment, stepCount } of parameters.values())
    tf.dispose([weight, firstMoment, secondMoment, stepCount]);
  return { gradients, kept };
}
