import { stream } from "@espalier/core";
import { bert, gpt2 } from "@espalier/models";
import { configOfShape, shapeOfDepth } from "@espalier/plugin-kit";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { disposeParameters, initializeParameters } from "./parameters.js";

beforeAll(async () => {
  await tf.setBackend("cpu");
});

describe.each([bert, gpt2])("initial parameters of $name", (family) => {
  const config = configOfShape({ ...shapeOfDepth(3), hiddenSize: 32, intermediateSize: 64 }, family);

  it("are what the family asks for, with empty moments", () => {
    const start = tf.memory().numTensors;
    const parameters = initializeParameters(family, config, stream(1));
    const specs = family.parameters(config);
    expect([...parameters.keys()]).toEqual(specs.map((spec) => spec.name));
    for (const { name, shape, initializer } of specs) {
      const state = parameters.get(name)!;
      expect(state.weight.shape).toEqual(shape);
      const values = [...state.weight.dataSync()];
      if (initializer.kind !== "normal")
        expect(new Set(values)).toEqual(new Set([initializer.kind === "ones" ? 1 : 0]));
      else {
        const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
        // Five standard errors of a standard deviation.
        expect(Math.abs(deviation / initializer.deviation - 1)).toBeLessThan(
          5 / Math.sqrt(2 * values.length),
        );
      }
      for (const moment of [state.firstMoment, state.secondMoment]) {
        expect(moment.shape).toEqual(shape);
        expect(new Set(moment.dataSync())).toEqual(new Set([0]));
      }
      expect([...state.stepCount.dataSync()]).toEqual([0]);
    }
    expect(tf.memory().numTensors).toBe(start + 4 * specs.length);
    disposeParameters(parameters);
    expect(tf.memory().numTensors).toBe(start);
  });

  it("do not depend on which other parameters exist", () => {
    const [one, three] = [
      { ...config, depth: 1 },
      { ...config, depth: 3 },
    ];
    const shallow = initializeParameters(family, one, stream(7));
    const deep = initializeParameters(family, three, stream(7));
    const deviations = new Map(
      family
        .parameters(three)
        .map(({ name, initializer }) => [name, initializer.kind === "normal" ? initializer.deviation : 1]),
    );
    for (const { name, initializer } of family.parameters(one)) {
      // A family may scale the residual projections with the depth: the draws are the same.
      const scale = (initializer.kind === "normal" ? initializer.deviation : 1) / deviations.get(name)!;
      const other = deep.get(name)!.weight.dataSync();
      const furthest = [...shallow.get(name)!.weight.dataSync()].map((value, index) =>
        Math.abs(value - scale * other[index]!),
      );
      expect(Math.max(...furthest)).toBeLessThan(scale === 1 ? Number.MIN_VALUE : 1e-6);
    }
    disposeParameters(shallow);
    disposeParameters(deep);
  });

  it("differ from layer to layer and from seed to seed", () => {
    const normal = family.parameters(config).filter((spec) => spec.initializer.kind === "normal");
    const firsts = [1, 2].flatMap((seed) => {
      const parameters = initializeParameters(family, config, stream(seed));
      const values = normal.map((spec) => parameters.get(spec.name)!.weight.dataSync()[0]);
      disposeParameters(parameters);
      return values;
    });
    expect(new Set(firsts).size).toBe(2 * normal.length);
  });
});
