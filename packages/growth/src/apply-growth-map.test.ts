import {
  copyOf,
  EspalierError,
  type GrowthMap,
  type ModelConfig,
  type MomentPolicy,
  momentPolicies,
  type ParameterGrowth,
  type SlotSource,
  shapeOf,
  stream,
  type TrainingParameters,
} from "@espalier/core";
import { gpt2 } from "@espalier/models";
import { adamW } from "@espalier/ops";
import { interpolatedLayers, interpolationExpander } from "@espalier/plugin-interpolation";
import { configOfShape, perturbedParameters, shapeOfDepth } from "@espalier/plugin-kit";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { applyGrowthMap, growWeights, weightsOf } from "./apply-growth-map.js";
import { disposeParameters, initializeParameters } from "./parameters.js";

const slots = ["weight", "firstMoment", "secondMoment", "stepCount"] as const;
type Slot = (typeof slots)[number];
type Values = Map<string, Record<Slot, number[]>>;

const configOf = (depth: number): ModelConfig => configOfShape(shapeOfDepth(depth), gpt2);
const random = stream(17);
const source = (depth: number): TrainingParameters => perturbedParameters(gpt2, configOf(depth), random);

function valuesOf(parameters: TrainingParameters): Values {
  return new Map(
    [...parameters].map(([name, state]) => [
      name,
      {
        weight: [...state.weight.dataSync()],
        firstMoment: [...state.firstMoment.dataSync()],
        secondMoment: [...state.secondMoment.dataSync()],
        stepCount: [...state.stepCount.dataSync()],
      },
    ]),
  );
}

function interpolation(
  from: number,
  to: number,
  moments: MomentPolicy,
  mode: "nearest" | "linear" = "nearest",
) {
  return interpolationExpander({ mode, moments }).plan(configOf(from), configOf(to), gpt2, random);
}

function grow(map: GrowthMap, parameters: TrainingParameters): TrainingParameters {
  return applyGrowthMap(map, parameters, { config: configOf(map.to.depth), family: gpt2, random });
}

/** The map that changes nothing at depth 1, with some parameters made otherwise. */
function mapWith(changes: { [name: string]: Partial<ParameterGrowth> }): GrowthMap {
  const parameters: { [name: string]: ParameterGrowth } = {};
  for (const { name } of gpt2.layout(1))
    parameters[name] = {
      weight: copyOf(name),
      firstMoment: copyOf(name),
      secondMoment: copyOf(name),
      stepCount: { kind: "from", names: [name] },
      ...changes[name],
    };
  const shape = shapeOf(configOf(1));
  return { expander: "test", from: shape, to: shape, layerMap: null, parameters };
}

const sum = (...terms: Extract<SlotSource, { kind: "sum" }>["terms"]): SlotSource => ({ kind: "sum", terms });

beforeAll(async () => {
  await tf.setBackend("cpu");
});

describe("moments", () => {
  it.each(momentPolicies)("go to the right layer in a growth 2 → 4: %s", (policy) => {
    const before = source(2);
    const values = valuesOf(before);
    const grown = grow(interpolation(2, 4, policy), before);
    const after = valuesOf(grown);
    for (const place of gpt2.layout(4)) {
      const { name, layer, suffix } = place;
      const origin = layer === null ? name : gpt2.layerParameter(layer >> 1, suffix);
      expect(after.get(name)!.weight).toEqual(values.get(origin)!.weight);
      const kept: string | null =
        policy === "carry"
          ? origin
          : policy === "upstream"
            ? (layer ?? 0) < 2
              ? name
              : null
            : origin === name
              ? name
              : null;
      for (const slot of ["firstMoment", "secondMoment", "stepCount"] as const) {
        const zeros = after.get(name)![slot].map(() => 0);
        expect(after.get(name)![slot]).toEqual(kept === null ? zeros : values.get(kept)![slot]);
      }
    }
    disposeParameters(grown);
  });

  it("blend with the weights, the second ones with squares, and count the fewest steps", () => {
    const before = source(2);
    const values = valuesOf(before);
    const grown = grow(interpolation(2, 3, "carry", "linear"), before);
    const after = valuesOf(grown);
    const blend = (slot: Slot, factor: number): number[] =>
      values
        .get("transformer.h.0.mlp.c_fc.weight")!
        [slot].map((value, index) =>
          Math.fround(factor * value + factor * values.get("transformer.h.1.mlp.c_fc.weight")![slot][index]!),
        );
    const middle = after.get("transformer.h.1.mlp.c_fc.weight")!;
    for (const [slot, factor] of [
      ["weight", 0.5],
      ["firstMoment", 0.5],
      ["secondMoment", 0.25],
    ] as const)
      for (const [index, value] of blend(slot, factor).entries())
        expect(middle[slot][index]).toBeCloseTo(value, 7);
    expect(middle.stepCount).toEqual([
      Math.min(
        values.get("transformer.h.0.mlp.c_fc.weight")!.stepCount[0]!,
        values.get("transformer.h.1.mlp.c_fc.weight")!.stepCount[0]!,
      ),
    ]);
    disposeParameters(grown);
  });
});

describe("the result", () => {
  it("has every parameter of the target, each with all slots, so that none misses the optimizer", () => {
    for (const policy of momentPolicies) {
      const grown = grow(interpolation(3, 7, policy), source(3));
      const specs = gpt2.parameters(configOf(7));
      expect([...grown.keys()]).toEqual(specs.map((spec) => spec.name));
      for (const spec of specs) {
        const state = grown.get(spec.name)!;
        expect([state.weight.shape, state.firstMoment.shape, state.secondMoment.shape]).toEqual([
          spec.shape,
          spec.shape,
          spec.shape,
        ]);
        expect(state.stepCount.shape).toEqual([]);
        for (const slot of slots) expect(state[slot].dtype).toBe("float32");
      }
      disposeParameters(grown);
    }
  });

  it("trains every parameter by itself: copies of one layer share no memory", () => {
    const grown = grow(interpolation(1, 3, "carry"), source(1));
    const memories = [...grown.values()].flatMap((state) => slots.map((slot) => state[slot].dataId));
    expect(new Set(memories).size).toBe(4 * grown.size);
    const before = valuesOf(grown);
    const trained = "transformer.h.1.attn.c_attn.weight";
    const state = grown.get(trained)!;
    const gradient = tf.ones(state.weight.shape);
    adamW([{ name: trained, state, gradient, decay: true }], {
      learningRate: 0.1,
      weightDecay: 0.01,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
    });
    const after = valuesOf(grown);
    for (const [name, values] of before)
      if (name === trained)
        for (const slot of slots) expect(after.get(name)![slot]).not.toEqual(values[slot]);
      else expect(after.get(name)).toEqual(values);
    gradient.dispose();
    disposeParameters(grown);
  });

  it("is independent also where the source had one tensor under two names", () => {
    const before = source(1);
    const [first, second] = ["transformer.ln_f.weight", "transformer.ln_f.bias"];
    const shared = before.get(first!)!;
    tf.dispose([before.get(second!)!.weight, before.get(second!)!.firstMoment]);
    before.set(second!, {
      ...before.get(second!)!,
      weight: shared.weight,
      firstMoment: shared.firstMoment.clone(),
    });
    const values = valuesOf(before);
    const grown = grow(mapWith({}), before);
    expect(valuesOf(grown)).toEqual(values);
    const memories = [...grown.values()].flatMap((state) => slots.map((slot) => state[slot].dataId));
    expect(new Set(memories).size).toBe(4 * grown.size);
    disposeParameters(grown);
  });

  it("moves what stays as it is, and leaves no tensor over", () => {
    const start = tf.memory().numTensors;
    const before = source(3);
    const moved = new Map([...before].map(([name, state]) => [name, slots.map((slot) => state[slot])]));
    const grown = grow(interpolation(3, 6, "carry"), before);
    for (const { name, layer } of gpt2.layout(6)) {
      if (layer !== null && layer !== 0) continue;
      expect(slots.map((slot) => grown.get(name)![slot])).toEqual(moved.get(name));
    }
    for (const tensors of moved.values())
      for (const tensor of tensors)
        expect(tensor.isDisposed).toBe(
          ![...grown.values()].some((state) => slots.some((slot) => state[slot] === tensor)),
        );
    expect(tf.memory().numTensors).toBe(start + 4 * grown.size);
    disposeParameters(grown);
    expect(tf.memory().numTensors).toBe(start);
  });

  it("outlives a tidy around the growth", () => {
    const before = source(1);
    const grown = new Map<string, TrainingParameters>();
    tf.tidy(() => {
      grown.set("all", grow(interpolation(1, 2, "reset"), before));
    });
    for (const state of grown.get("all")!.values())
      for (const slot of slots) expect(state[slot].isDisposed).toBe(false);
    disposeParameters(grown.get("all")!);
  });

  it("is the same to the bit as the source where nothing grows", () => {
    const before = source(3);
    // Values that a sum with zero or a product would not all keep.
    const state = before.get("transformer.ln_f.bias")!;
    state.weight.dispose();
    state.weight = tf.tensor1d([-0, 1e-40, -1e38, 0, 3, -4, 5e-45, 1], "float32");
    const bits = (parameters: TrainingParameters) =>
      [...parameters].map(([name, { weight }]) => [
        name,
        ...new Int32Array(new Float32Array(weight.dataSync()).buffer),
      ]);
    const values = bits(before);
    const copies = growWeights(interpolation(3, 3, "carry"), weightsOf(before), {
      config: configOf(3),
      family: gpt2,
      random,
    });
    expect(
      [...copies].map(([name, weight]) => [
        name,
        ...new Int32Array(new Float32Array(weight.dataSync()).buffer),
      ]),
    ).toEqual(values);
    tf.dispose([...copies.values()]);
    const grown = grow(interpolation(3, 3, "carry"), before);
    expect(bits(grown)).toEqual(values);
    disposeParameters(grown);
  });
});

describe("slots", () => {
  const matrix = "transformer.h.0.mlp.c_fc.weight";
  const bias = "transformer.h.0.mlp.c_fc.bias";
  const one = (
    changes: { [name: string]: Partial<ParameterGrowth> },
    name: string,
    slot: Slot = "weight",
  ) => {
    const before = source(1);
    const values = valuesOf(before);
    const grown = grow(mapWith(changes), before);
    const made = valuesOf(grown).get(name)![slot];
    disposeParameters(grown);
    return { made, values };
  };

  it("take entries by index, scaled, along every axis", () => {
    const rows = [3, 0, 0, 7, 1, 2, 5, 5];
    const columns = Array.from({ length: 16 }, (_, column) => 15 - column);
    const scales = columns.map((column) => 1 / (1 + column));
    const { made, values } = one(
      {
        [matrix]: {
          weight: sum({
            from: matrix,
            scale: -2,
            axes: [
              { kind: "index", indices: rows },
              { kind: "index", indices: columns, scales },
            ],
          }),
        },
      },
      matrix,
    );
    const from = values.get(matrix)!.weight;
    for (const [row, fromRow] of rows.entries())
      for (const [column, fromColumn] of columns.entries())
        expect(made[row * 16 + column]).toBeCloseTo(
          -2 * scales[column]! * from[fromRow * 16 + fromColumn]!,
          5,
        );
  });

  it("take learned matrices along every axis", () => {
    const left = Array.from({ length: 8 }, (_, row) =>
      Array.from({ length: 8 }, (__, column) => row - 2 * column),
    );
    const right = Array.from({ length: 16 }, (_, row) =>
      Array.from({ length: 16 }, (__, column) => (row + column) % 3),
    );
    const { made, values } = one(
      {
        [matrix]: {
          weight: sum({
            from: matrix,
            scale: 0.5,
            axes: [
              { kind: "matrix", rows: left },
              { kind: "matrix", rows: right },
            ],
          }),
        },
        [bias]: { firstMoment: sum({ from: bias, scale: 1, axes: [{ kind: "matrix", rows: right }] }) },
      },
      matrix,
    );
    const from = values.get(matrix)!.weight;
    for (const row of [0, 3, 7])
      for (const column of [0, 5, 15]) {
        let expected = 0;
        for (let r = 0; r < 8; r++)
          for (let c = 0; c < 16; c++) expected += left[row]![r]! * from[r * 16 + c]! * right[column]![c]!;
        expect(made[row * 16 + column]).toBeCloseTo(0.5 * expected, 3);
      }
  });

  it("sum their terms, each with its own maps", () => {
    const swapped = Array.from({ length: 16 }, (_, index) => (index + 1) % 16);
    const { made, values } = one(
      {
        [bias]: {
          weight: sum(
            { from: bias, scale: 0.25 },
            { from: bias, scale: 3, axes: [{ kind: "index", indices: swapped }] },
            { from: bias, scale: -1, axes: [null] },
          ),
        },
      },
      bias,
    );
    const from = values.get(bias)!.weight;
    for (const [index, value] of made.entries())
      expect(value).toBeCloseTo(-0.75 * from[index]! + 3 * from[swapped[index]!]!, 5);
  });

  it("can be zeros, and weights as the family initialises them", () => {
    expect(one({ [matrix]: { weight: { kind: "zeros" } } }, matrix).made.every((value) => value === 0)).toBe(
      true,
    );
    expect(one({ [matrix]: { stepCount: { kind: "zero" } } }, matrix, "stepCount").made).toEqual([0]);
    const fresh = initializeParameters(gpt2, configOf(3), random);
    const wanted = valuesOf(fresh).get(matrix)!.weight;
    disposeParameters(fresh);
    expect(one({ [matrix]: { weight: { kind: "initialize" } } }, matrix).made).toEqual(wanted);
  });
});

describe("a map that does not fit", () => {
  const matrix = "transformer.h.0.mlp.c_fc.weight";
  const identity = Array.from({ length: 16 }, (_, index) => index);
  const changed = (weight: SlotSource) => mapWith({ [matrix]: { weight } });

  it.each<[string, GrowthMap, string]>([
    ["another target", { ...mapWith({}), to: shapeOfDepth(2) }, "grows to 2×8"],
    [
      "an unknown source",
      changed(copyOf("transformer.h.1.mlp.c_fc.weight")),
      "which the source does not have",
    ],
    [
      "another shape",
      changed(copyOf("transformer.h.0.mlp.c_proj.weight")),
      "axis 0 is kept, but its length changes",
    ],
    ["another number of axes", changed(copyOf("transformer.h.0.mlp.c_fc.bias")), "another number of axes"],
    ["no terms", changed(sum()), "a sum of nothing"],
    ["no scale", changed(sum({ from: matrix, scale: Number.NaN })), "with the scale NaN"],
    ["too few axis maps", changed(sum({ from: matrix, scale: 1, axes: [null] })), "with 1 axis maps"],
    [
      "too few indices",
      changed(sum({ from: matrix, scale: 1, axes: [null, { kind: "index", indices: [0] }] })),
      "has 1 entries for a length of 16",
    ],
    [
      "an index outside",
      changed(
        sum({ from: matrix, scale: 1, axes: [null, { kind: "index", indices: [...identity.slice(1), 16] }] }),
      ),
      "index 16 of axis 1 lies outside of 0..15",
    ],
    [
      "too few scales",
      changed(
        sum({ from: matrix, scale: 1, axes: [null, { kind: "index", indices: identity, scales: [1] }] }),
      ),
      "the scales of axis 1 are not 16 finite numbers",
    ],
    [
      "a ragged matrix",
      changed(
        sum({
          from: matrix,
          scale: 1,
          axes: [null, { kind: "matrix", rows: identity.map((row) => (row === 3 ? [1] : identity)) }],
        }),
      ),
      "row 3 of the matrix of axis 1 is not 16 finite numbers",
    ],
    [
      "an initialised moment",
      mapWith({ [matrix]: { firstMoment: { kind: "initialize" } } }),
      "initialises the firstMoment",
    ],
    ["no step count", mapWith({ [matrix]: { stepCount: { kind: "from", names: [] } } }), "from no parameter"],
    [
      "an unknown step count",
      mapWith({ [matrix]: { stepCount: { kind: "from", names: ["wte"] } } }),
      "which the source does not have",
    ],
  ])("is refused before anything changes: %s", (_what, map, reason) => {
    const before = source(1);
    const values = valuesOf(before);
    const tensors = tf.memory().numTensors;
    const apply = () => applyGrowthMap(map, before, { config: configOf(1), family: gpt2, random });
    expect(apply).toThrow(EspalierError);
    expect(apply).toThrow(reason);
    expect(tf.memory().numTensors).toBe(tensors);
    expect(valuesOf(before)).toEqual(values);
    disposeParameters(before);
  });

  it("is refused where parameters are missing or too many", () => {
    const before = source(1);
    const { [matrix]: _dropped, ...rest } = mapWith({}).parameters;
    const context = { config: configOf(1), family: gpt2, random };
    expect(() => applyGrowthMap({ ...mapWith({}), parameters: rest }, before, context)).toThrow(
      `does not say how "${matrix}" is made`,
    );
    const extra = { ...mapWith({}).parameters, "transformer.h.1.ln_1.bias": mapWith({}).parameters[matrix]! };
    expect(() => applyGrowthMap({ ...mapWith({}), parameters: extra }, before, context)).toThrow(
      'makes "transformer.h.1.ln_1.bias", which gpt2 at 1×8',
    );
    disposeParameters(before);
  });

  it("leaves no tensors where growth fails half-way", () => {
    const before = source(1);
    const values = valuesOf(before);
    const tensors = tf.memory().numTensors;
    const failing = {
      ...random,
      fork: () => {
        throw new Error("out of memory");
      },
    };
    const map = mapWith({
      [matrix]: { weight: sum({ from: matrix, scale: 2 }) },
      "transformer.h.0.mlp.c_proj.weight": { weight: { kind: "initialize" } },
    });
    expect(() => applyGrowthMap(map, before, { config: configOf(1), family: gpt2, random: failing })).toThrow(
      "out of memory",
    );
    expect(tf.memory().numTensors).toBe(tensors);
    expect(valuesOf(before)).toEqual(values);
    disposeParameters(before);
  });
});

describe("growWeights", () => {
  it("makes the weights that applyGrowthMap makes, and leaves the source", () => {
    const before = source(2);
    const values = valuesOf(before);
    const map = interpolation(2, 4, "reset");
    const weights = growWeights(map, weightsOf(before), { config: configOf(4), family: gpt2, random });
    expect(valuesOf(before)).toEqual(values);
    const copies = [...weights].map(([name, weight]) => [name, [...weight.dataSync()]]);
    tf.dispose([...weights.values()]);
    const grown = grow(map, before);
    expect([...valuesOf(grown)].map(([name, { weight }]) => [name, weight])).toEqual(copies);
    disposeParameters(grown);
    expect(map.layerMap).toEqual(interpolatedLayers(2, 4));
  });
});
