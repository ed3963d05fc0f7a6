import { describe, expect, it } from "vitest";
import { copyOf, isCopyOf, type SlotSource, withMoments } from "./growth-map.js";

const empty = {
  firstMoment: { kind: "zeros" },
  secondMoment: { kind: "zeros" },
  stepCount: { kind: "zero" },
};

function own(name: string) {
  return {
    firstMoment: copyOf(name),
    secondMoment: copyOf(name),
    stepCount: { kind: "from", names: [name] },
  };
}

describe("copies", () => {
  it("are single, unscaled terms over all of the source", () => {
    expect(isCopyOf(copyOf("a"), "a")).toBe(true);
    expect(isCopyOf({ kind: "sum", terms: [{ from: "a", scale: 1, axes: [null, null] }] }, "a")).toBe(true);
    expect(isCopyOf(copyOf("a"), "b")).toBe(false);
    expect(isCopyOf({ kind: "sum", terms: [{ from: "a", scale: 0.5 }] }, "a")).toBe(false);
    expect(isCopyOf({ kind: "zeros" }, "a")).toBe(false);
    expect(
      isCopyOf(
        { kind: "sum", terms: [{ from: "a", scale: 1, axes: [{ kind: "index", indices: [0] }] }] },
        "a",
      ),
    ).toBe(false);
    expect(
      isCopyOf(
        {
          kind: "sum",
          terms: [
            { from: "a", scale: 1 },
            { from: "a", scale: 1 },
          ],
        },
        "a",
      ),
    ).toBe(false);
  });
});

// Interpolation of one weight per layer, 2 → 4, with an embedding and a head that stay.
const weights: { [name: string]: SlotSource } = {
  embedding: copyOf("embedding"),
  "layer.0": copyOf("layer.0"),
  "layer.1": copyOf("layer.0"),
  "layer.2": copyOf("layer.1"),
  "layer.3": copyOf("layer.1"),
  head: copyOf("head"),
};
const names = new Set(["embedding", "layer.0", "layer.1", "head"]);
const places = Object.keys(weights).map((name) => ({
  name,
  layer: name.startsWith("layer.") ? Number(name.split(".")[1]) : null,
}));

describe("moments that are carried", () => {
  it("come from where the weight comes from: never from the layer that had the index before", () => {
    const parameters = withMoments(weights, "carry", names, places);
    for (const [name, weight] of Object.entries(weights)) {
      expect(parameters[name]!.weight).toEqual(weight);
      expect(parameters[name]!.firstMoment).toEqual(weight);
      expect(parameters[name]!.secondMoment).toEqual(weight);
      const from = weight.kind === "sum" ? weight.terms[0]!.from : null;
      expect(parameters[name]!.stepCount).toEqual({ kind: "from", names: [from] });
    }
    expect(parameters["layer.1"]!.firstMoment).toEqual(copyOf("layer.0"));
  });

  it("scale with the copy: by s and by s²", () => {
    const weight: SlotSource = { kind: "sum", terms: [{ from: "head", scale: -0.5 }] };
    expect(withMoments({ head: weight }, "carry", names, places).head).toEqual({
      weight,
      firstMoment: weight,
      secondMoment: { kind: "sum", terms: [{ from: "head", scale: 0.25 }] },
      stepCount: { kind: "from", names: ["head"] },
    });
  });

  it("scale along axes and through matrices alike, term by term", () => {
    const weight: SlotSource = {
      kind: "sum",
      terms: [
        {
          from: "layer.0",
          scale: 0.5,
          axes: [{ kind: "index", indices: [0, 1, 0], scales: [0.5, 1, 3] }, null],
        },
        {
          from: "layer.1",
          scale: 2,
          axes: [
            {
              kind: "matrix",
              rows: [
                [1, -2],
                [0, 3],
                [1, 1],
              ],
            },
            { kind: "index", indices: [1, 0] },
          ],
        },
      ],
    };
    const { firstMoment, secondMoment, stepCount } = withMoments(
      { "layer.1": weight },
      "carry",
      names,
      places,
    )["layer.1"]!;
    expect(firstMoment).toEqual(weight);
    expect(secondMoment).toEqual({
      kind: "sum",
      terms: [
        {
          from: "layer.0",
          scale: 0.25,
          axes: [{ kind: "index", indices: [0, 1, 0], scales: [0.25, 1, 9] }, null],
        },
        {
          from: "layer.1",
          scale: 4,
          axes: [
            {
              kind: "matrix",
              rows: [
                [1, 4],
                [0, 9],
                [1, 1],
              ],
            },
            { kind: "index", indices: [1, 0] },
          ],
        },
      ],
    });
    expect(stepCount).toEqual({ kind: "from", names: ["layer.0", "layer.1"] });
  });

  it("are empty where nothing is taken from the source", () => {
    const zeroed: SlotSource = { kind: "sum", terms: [{ from: "layer.0", scale: 0 }] };
    for (const weight of [zeroed, { kind: "zeros" }, { kind: "initialize" }] as const)
      expect(withMoments({ "layer.1": weight }, "carry", names, places)["layer.1"]).toEqual({
        weight,
        ...empty,
      });
    const half: SlotSource = {
      kind: "sum",
      terms: [
        { from: "layer.0", scale: 0 },
        { from: "layer.1", scale: 1 },
      ],
    };
    expect(withMoments({ "layer.1": half }, "carry", names, places)["layer.1"]).toMatchObject({
      firstMoment: copyOf("layer.1"),
      stepCount: { kind: "from", names: ["layer.1"] },
    });
  });
});

describe("moments that are reset", () => {
  it("are empty for every layer that growth makes or changes, and kept everywhere else", () => {
    const parameters = withMoments(weights, "reset", names, places);
    for (const name of ["embedding", "head", "layer.0"])
      expect(parameters[name]).toEqual({ weight: weights[name], ...own(name) });
    for (const name of ["layer.1", "layer.2", "layer.3"])
      expect(parameters[name]).toEqual({ weight: weights[name], ...empty });
  });
});

describe("moments that are reset by a growth in width", () => {
  const axes = [{ kind: "index", indices: [0, 1, 0], scales: [0.5, 1, 0.5] }] as const;
  const wider = (from: string): SlotSource => ({ kind: "sum", terms: [{ from, scale: 1, axes }] });
  const wide = {
    embedding: copyOf("embedding"),
    "layer.0": wider("layer.0"),
    "layer.0.norm": copyOf("layer.0.norm"),
    "layer.1": copyOf("layer.1"),
    head: wider("head"),
    fresh: { kind: "initialize" } as const,
  };
  const layers = [
    { name: "layer.0", layer: 0 },
    { name: "layer.0.norm", layer: 0 },
    { name: "layer.1", layer: 1 },
  ];
  const parameters = withMoments(wide, "reset", new Set(Object.keys(wide)), layers);

  it("are empty in all of a layer of which one parameter changes", () => {
    for (const name of ["layer.0", "layer.0.norm"] as const)
      expect(parameters[name]).toEqual({ weight: wide[name], ...empty });
    for (const name of ["layer.1", "embedding"] as const)
      expect(parameters[name]).toEqual({ weight: wide[name], ...own(name) });
  });

  it("go along where an embedding or the head is widened, and are empty where one is initialised", () => {
    const squares = [{ ...axes[0], scales: [0.25, 1, 0.25] }];
    expect(parameters.head).toEqual({
      weight: wide.head,
      firstMoment: wide.head,
      secondMoment: { kind: "sum", terms: [{ from: "head", scale: 1, axes: squares }] },
      stepCount: { kind: "from", names: ["head"] },
    });
    expect(parameters.fresh).toEqual({ weight: wide.fresh, ...empty });
  });
});

describe("moments as upstream leaves them", () => {
  it("stay at their index while weights move; new layers start empty", () => {
    const parameters = withMoments(weights, "upstream", names, places);
    for (const name of names) expect(parameters[name]).toEqual({ weight: weights[name], ...own(name) });
    for (const name of ["layer.2", "layer.3"])
      expect(parameters[name]).toEqual({ weight: weights[name], ...empty });
  });

  it("start empty where a parameter changes its shape", () => {
    const wider: SlotSource = {
      kind: "sum",
      terms: [{ from: "head", scale: 1, axes: [{ kind: "index", indices: [0, 0, 1] }] }],
    };
    expect(withMoments({ head: wider }, "upstream", names, places).head).toEqual({ weight: wider, ...empty });
  });
});

describe("every policy", () => {
  it("says for each parameter of the target where all of its slots come from", () => {
    for (const policy of ["carry", "reset", "upstream"] as const) {
      const parameters = withMoments(weights, policy, names, places);
      expect(Object.keys(parameters)).toEqual(Object.keys(weights));
      for (const growth of Object.values(parameters))
        expect(Object.keys(growth).sort()).toEqual(["firstMoment", "secondMoment", "stepCount", "weight"]);
    }
  });

  it("keeps everything where growth changes nothing", () => {
    const same = Object.fromEntries([...names].map((name) => [name, copyOf(name)]));
    for (const policy of ["carry", "reset", "upstream"] as const)
      for (const [name, growth] of Object.entries(withMoments(same, policy, names, places)))
        expect(growth).toEqual({ weight: copyOf(name), ...own(name) });
  });
});
