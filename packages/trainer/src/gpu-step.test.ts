import { loadBackend } from "@espalier/backends";
import { identityLayerMap, type ModelFamily, stream } from "@espalier/core";
import { disposeParameters, initializeParameters, weightsOf } from "@espalier/growth";
import { bert, gpt2 } from "@espalier/models";
import { loadShapes } from "@espalier/tfjs-backend-libtorch/parts";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { applyGradients } from "./apply-gradients.js";
import { differentiate, disposeBatch, type Gradients, toDevice, trainedParameters } from "./micro-step.js";
import { decayOf } from "./parameters.js";
import { tinyBert, tinyGpt2, tinyStrategies } from "./tiny-run.test-support.js";

// What a GPU is asked for, gone through without one: every operator that is not the CPU's is called with the arguments of
// a real training step, its shapes and dtypes are computed, and no element is.
beforeAll(async () => {
  await loadBackend({ backend: "libtorch", device: "cpu", threads: 1 });
  await tf.setBackend(loadShapes());
});

function nativeHandles(): number {
  return (tf.memory() as unknown as { nativeHandles: number }).nativeHandles;
}

describe.each<[string, ModelFamily, typeof tinyBert]>([
  ["BERT", bert, tinyBert],
  ["GPT-2", gpt2, tinyGpt2],
])("a training step of %s on a device that is not the CPU", (_, family, config) => {
  it.each([0, 0.1])(
    "asks for nothing that an operator does not take, and reads nothing (dropout %d)",
    (rate) => {
      const shape = { ...config, dropout: rate };
      const before = { tensors: tf.memory().numTensors, handles: nativeHandles() };
      const random = stream(1);
      const parameters = initializeParameters(family, shape, random);
      const layout = family.layout(shape.depth);
      const layerMap = identityLayerMap(shape.depth);
      const { objective, optimizer } = tinyStrategies({ unit: "steps", amount: 1, steps: 1 }, family.causal);
      const tokens = Int32Array.from({ length: 48 }, (_, index) => 2 + (index % 100));
      const batch = toDevice(objective.prepare(tokens, 2, 24, random.fork("masking")));
      const trained = trainedParameters(layout, layerMap, "all");
      const gradients: Gradients = new Map();
      const loss = differentiate({
        family,
        config: shape,
        weights: weightsOf(parameters),
        trained,
        batch,
        layerMap,
        dropout: random.fork("dropout"),
        compute: {},
        scale: 1,
        sums: gradients,
      });
      disposeBatch(batch);
      expect(loss.shape).toEqual([]);
      for (const name of trained)
        expect(gradients.get(name)?.shape).toEqual(parameters.get(name)!.weight.shape);
      const norm = applyGradients(gradients, {
        parameters,
        names: trained,
        decays: decayOf(family, shape),
        optimizer,
        learningRate: 0.01,
        clipNorm: 1,
      });
      expect(norm.shape).toEqual([]);
      // Nothing was computed: a value cannot be had.
      expect(() => norm.dataSync()).toThrow(/[Mm]eta/);
      tf.dispose([loss, norm]);
      disposeParameters(parameters);
      expect({ tensors: tf.memory().numTensors, handles: nativeHandles() }).toEqual(before);
    },
  );
});
