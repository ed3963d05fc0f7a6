import { stream } from "@espalier/core";
import { disposeParameters, weightsOf } from "@espalier/growth";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { configOfShape, shapeOfDepth } from "./checks.js";
import { perturbedParameters, testInput } from "./measure.js";
import { residualFamily } from "./residual-family.js";

const config = configOfShape(shapeOfDepth(3));

beforeAll(async () => {
  await tf.setBackend("cpu");
});

/** The logits of every position. `[batch · seq · vocab]` */
function logits(layerMap: readonly number[], countedPositions: readonly number[] | null = null): number[] {
  const parameters = perturbedParameters(residualFamily, config, stream(1));
  const { inputIds } = testInput(config);
  const values = tf.tidy(() => [
    ...residualFamily
      .forward(
        weightsOf(parameters),
        config,
        {
          inputIds,
          attentionMask: null,
          countedPositions: countedPositions ? tf.tensor1d([...countedPositions], "int32") : null,
        },
        { layerMap, dropout: null },
      )
      .dataSync(),
  ]);
  inputIds.dispose();
  disposeParameters(parameters);
  return values;
}

describe("the residual family", () => {
  it("shows order, number and sharing of layers in its logits", () => {
    const maps = [[0], [1], [0, 1], [1, 0], [0, 0], [0, 1, 2], [0, 1, 2, 2], [0, 0, 1, 1, 2, 2]];
    expect(new Set(maps.map((map) => logits(map)[0])).size).toBe(maps.length);
  });

  it("gives the logits of the counted positions", () => {
    const all = logits([0, 1, 2]);
    expect(logits([0, 1, 2], [4, 0])).toEqual([
      ...all.slice(4 * config.vocabSize, 5 * config.vocabSize),
      ...all.slice(0, config.vocabSize),
    ]);
  });

  it("leaves no tensor behind", () => {
    const before = tf.memory().numTensors;
    logits([0, 1, 2, 1]);
    expect(tf.memory().numTensors).toBe(before);
  });

  it("refuses layers that are not there", () => {
    expect(() => logits([0, 3])).toThrow("names layer 3");
  });

  it("costs what its products cost", () => {
    const load = { batchSize: 2, sequenceLength: 5, executedLayers: 4, countedPositions: 7 };
    const { hiddenSize, intermediateSize, vocabSize } = config;
    const forward = 4 * (2 * 10 * hiddenSize * intermediateSize * 2) + 2 * 7 * hiddenSize * vocabSize;
    expect(residualFamily.cost(config, load)).toEqual({ forwardFlops: forward, trainingFlops: 3 * forward });
  });
});
