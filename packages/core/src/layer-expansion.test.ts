import { describe, expect, it } from "vitest";
import { EspalierError, UsageError } from "./errors.js";
import { copyOf } from "./growth-map.js";
import { hashGrowthMap } from "./growth-map-hash.js";
import { describeGrowthMap } from "./growth-map-text.js";
import { planLayers } from "./layer-expansion.js";
import type { ParameterPlace } from "./model-family.js";
import type { ModelShape } from "./shape.js";

const family = {
  layerParameter: (layer: number, suffix: string) => `h.${layer}.${suffix}`,
  layout: (depth: number): ParameterPlace[] => [
    {
      name: "wte.weight",
      part: "embedding",
      layer: null,
      suffix: "wte.weight",
      axes: ["vocabulary", "hidden"],
      inputAxis: null,
    },
    ...Array.from({ length: depth }, (_, layer) =>
      ["fc.weight", "fc.bias"].map(
        (suffix): ParameterPlace => ({
          name: `h.${layer}.${suffix}`,
          part: "layer",
          layer,
          suffix,
          axes: ["hidden"],
          inputAxis: null,
        }),
      ),
    ).flat(),
    {
      name: "ln_f.weight",
      part: "head",
      layer: null,
      suffix: "ln_f.weight",
      axes: ["hidden"],
      inputAxis: null,
    },
  ],
};

const shape = (depth: number): ModelShape => ({
  depth,
  hiddenSize: 8,
  attentionHeads: 2,
  intermediateSize: 32,
});

const plan = (options: Partial<Parameters<typeof planLayers>[0]> = {}) =>
  planLayers({
    expander: "doubling",
    from: shape(2),
    to: shape(4),
    family,
    moments: "carry",
    layerMap: [0, 0, 1, 1],
    layerSource: (layer) => [[layer >> 1, 1]],
    ...options,
  });

describe("planLayers", () => {
  it("makes every parameter of a layer from the same source layer, and keeps the rest", () => {
    const map = plan();
    expect(Object.keys(map.parameters)).toEqual(family.layout(4).map((place) => place.name));
    for (const place of family.layout(4))
      expect(map.parameters[place.name]!.weight).toEqual(
        copyOf(place.layer === null ? place.name : `h.${place.layer >> 1}.${place.suffix}`),
      );
    expect(map).toMatchObject({ expander: "doubling", from: shape(2), to: shape(4), layerMap: [0, 0, 1, 1] });
  });

  it("blends, one term for each source layer", () => {
    const map = plan({
      layerMap: null,
      layerSource: () => [
        [0, 0.25],
        [1, 0.5],
        [0, 0.25],
      ],
    });
    const { weight, secondMoment } = map.parameters["h.3.fc.bias"]!;
    expect(weight).toEqual({
      kind: "sum",
      terms: [
        { from: "h.0.fc.bias", scale: 0.5 },
        { from: "h.1.fc.bias", scale: 0.5 },
      ],
    });
    expect(secondMoment).toMatchObject({ terms: [{ scale: 0.25 }, { scale: 0.25 }] });
  });

  it("refuses to widen and to shrink", () => {
    for (const axis of ["hiddenSize", "attentionHeads", "intermediateSize"] as const) {
      const widened = () => plan({ to: { ...shape(4), [axis]: 64 } });
      expect(widened).toThrow(UsageError);
      expect(widened).toThrow(`expander "doubling" grows depth only, but ${axis} changes`);
    }
    expect(() => plan({ to: shape(1) })).toThrow(
      "cannot grow from 2×8, 2 heads, intermediate 32 to the shallower 1×8",
    );
  });

  it("refuses source layers that are not there, before a map is made", () => {
    for (const source of [[[2, 1]], [[-1, 1]], [[0.5, 1]], [[0, Number.NaN]], []] as const) {
      expect(() => plan({ layerSource: () => source })).toThrow(EspalierError);
      expect(() => plan({ layerSource: () => source })).toThrow('expander "doubling" makes layer 0');
    }
    expect(() => plan({ layerMap: [0, 0, 1, 2] })).toThrow("names layer 2");
    expect(() => plan({ layerMap: [0, 0, 1] })).toThrow("a layer map of 3 layers for a depth of 4");
  });
});

describe("hashGrowthMap", () => {
  it("is a SHA-256 of what the map says, not of how the object was built", () => {
    const map = plan();
    const hash = hashGrowthMap(map);
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    expect(hashGrowthMap(plan())).toBe(hash);
    expect(hashGrowthMap(JSON.parse(JSON.stringify(map)))).toBe(hash);
    const reversed = Object.fromEntries(Object.entries(map.parameters).reverse());
    expect(hashGrowthMap({ ...map, parameters: reversed })).toBe(hash);
    const config = { ...map.to, vocabSize: 7 };
    expect(hashGrowthMap({ ...map, to: config })).toBe(hash);
  });

  it("does not depend on how the map was planned: by which expander, with which layer map", () => {
    const map = plan();
    for (const other of [plan({ expander: "other" }), plan({ layerMap: null })])
      expect(hashGrowthMap(other)).toBe(hashGrowthMap(map));
    const scaled = (scales?: readonly number[]) => ({
      ...map,
      parameters: {
        ...map.parameters,
        "h.1.fc.bias": {
          ...map.parameters["h.1.fc.bias"]!,
          weight: {
            kind: "sum" as const,
            terms: [
              {
                from: "h.0.fc.bias",
                scale: 1,
                axes: [{ kind: "index" as const, indices: [1, 0], ...(scales ? { scales } : {}) }],
              },
            ],
          },
        },
      },
    });
    expect(hashGrowthMap(scaled([1, 1]))).toBe(hashGrowthMap(scaled()));
    expect(hashGrowthMap(scaled([1, 0.5]))).not.toBe(hashGrowthMap(scaled()));
  });

  it("changes with every slot and the shapes", () => {
    const map = plan();
    const bias = map.parameters["h.1.fc.bias"]!;
    const variants = [
      map,
      plan({ moments: "reset" }),
      plan({ moments: "upstream" }),
      plan({ layerSource: () => [[1, 1]] }),
      plan({ layerSource: (layer) => [[layer >> 1, 0.5]] }),
      { ...map, to: { ...map.to, intermediateSize: 33 } },
      ...[{ weight: { kind: "zeros" } as const }, { stepCount: { kind: "zero" } as const }].map((change) => ({
        ...map,
        parameters: { ...map.parameters, "h.1.fc.bias": { ...bias, ...change } },
      })),
    ];
    expect(new Set(variants.map(hashGrowthMap)).size).toBe(variants.length);
  });
});

describe("describeGrowthMap", () => {
  it("says how each group of parameters is made", () => {
    expect(describeGrowthMap(plan())).toBe(
      [
        "doubling: 2×8, 2 heads, intermediate 32 → 4×8, 2 heads, intermediate 32",
        "layers: 0 0 1 1",
        "  unchanged: wte.weight, h.0.*, ln_f.weight (4 parameters)",
        "  h.{1-3}.* = h.{0,1,1}.* (6 parameters); moments = h.{0,1,1}.*; step count of h.{0,1,1}.*",
      ].join("\n"),
    );
  });

  it("names the parameters of a layer that are made in different ways, and tells squared scales from plain ones", () => {
    const map = plan();
    const axes = (scale: number) => [{ kind: "index" as const, indices: [0, 0], scales: [scale, 1] }];
    const made = (layer: number, scale: number) => ({
      kind: "sum" as const,
      terms: [{ from: `h.${layer}.fc.weight`, scale: 1, axes: axes(scale) }],
    });
    const widened = (layer: number, second: number) => ({
      weight: made(layer, 1),
      firstMoment: made(layer, 0.5),
      secondMoment: made(layer, second),
      stepCount: { kind: "zero" as const },
    });
    const text = describeGrowthMap({
      ...map,
      parameters: {
        ...map.parameters,
        "h.0.fc.weight": widened(0, 0.25),
        "h.1.fc.weight": widened(0, 0.25),
        "h.2.fc.weight": widened(1, 0.5),
        "h.3.fc.weight": widened(1, 0.3),
      },
    });
    expect(text.split("\n").slice(2)).toEqual([
      "  unchanged: wte.weight, h.0.fc.bias, ln_f.weight (3 parameters)",
      "  h.{0,1}.fc.weight = h.0.*[2 by index] (2 parameters); moments = h.0.*[2 by index, scaled], the second by squared scales; step count 0",
      "  h.{1-3}.fc.bias = h.{0,1,1}.* (3 parameters); moments = h.{0,1,1}.*; step count of h.{0,1,1}.*",
      "  h.2.fc.weight = h.1.*[2 by index] (1 parameter); moments = h.1.*[2 by index, scaled]; step count 0",
      "  h.3.fc.weight = h.1.*[2 by index] (1 parameter); first moment = h.1.*[2 by index, scaled]; second moment = h.1.*[2 by index, scaled]; step count 0",
    ]);
  });

  it("shows scales, axes and empty moments", () => {
    const map = plan({
      moments: "reset",
      layerMap: null,
      layerSource: (layer) =>
        layer === 3
          ? [
              [0, 0.5],
              [1, 0.5],
            ]
          : [[0, 1]],
    });
    expect(describeGrowthMap(map)).toContain(
      "h.3.* = 0.5 · h.0.* + 0.5 · h.1.* (2 parameters); moments = 0; step count 0",
    );
    const wide = {
      ...map,
      parameters: {
        "wte.weight": {
          weight: {
            kind: "sum",
            terms: [
              {
                from: "wte.weight",
                scale: 1,
                axes: [null, { kind: "index", indices: [0, 0], scales: [1, 2] }],
              },
            ],
          },
          firstMoment: {
            kind: "sum",
            terms: [{ from: "wte.weight", scale: 1, axes: [null, { kind: "matrix", rows: [[1, 2, 3]] }] }],
          },
          secondMoment: { kind: "zeros" },
          stepCount: { kind: "zero" },
        },
        "ln_f.weight": { ...map.parameters["ln_f.weight"]!, weight: { kind: "initialize" } },
      },
    } as const;
    expect(describeGrowthMap(wide)).toContain(
      "wte.weight = wte.weight[-, 2 by index, scaled] (1 parameter); first moment = wte.weight[-, matrix 1×3]; second moment = 0; step count 0",
    );
    expect(describeGrowthMap(wide)).toContain(
      "ln_f.weight = initialised (1 parameter); moments = ln_f.weight",
    );
  });
});
