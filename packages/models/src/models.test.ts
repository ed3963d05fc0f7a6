import {
  EspalierError,
  type ModelConfig,
  type ModelFamily,
  type ModelInput,
  stream,
  UsageError,
} from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { bert } from "./bert.js";
import { type DropoutPlace, dropoutPlaces } from "./dropout-places.js";
import { gpt2 } from "./gpt2.js";
import { modelsPlugin } from "./plugin.js";

beforeAll(async () => {
  await tf.setBackend("cpu");
});

const base: ModelConfig = {
  family: "",
  depth: 12,
  hiddenSize: 768,
  attentionHeads: 12,
  intermediateSize: 3072,
  vocabSize: 30522,
  maxPositions: 512,
  dropout: 0.1,
  layerNormEpsilon: 1e-5,
  initializerRange: 0.02,
  tokenTypes: 2,
};
const small: ModelConfig = {
  ...base,
  depth: 2,
  hiddenSize: 8,
  attentionHeads: 2,
  intermediateSize: 12,
  vocabSize: 11,
  maxPositions: 6,
};
const size = (shape: readonly number[]) => shape.reduce((product, axis) => product * axis, 1);
const count = (family: ModelFamily, config: ModelConfig) =>
  family.parameters(config).reduce((sum, { shape }) => sum + size(shape), 0);

describe("parameters", () => {
  it("are as many as the published models have", () => {
    expect(count(bert, base)).toBe(109_514_298);
    expect(count(gpt2, { ...base, vocabSize: 50257, maxPositions: 1024 })).toBe(124_439_808);
  });

  it.each([bert, gpt2])("of $name agree with the layout", (family) => {
    const specs = family.parameters(small);
    expect(specs.map(({ shape: _, decay: __, initializer: ___, ...place }) => place)).toEqual(
      family.layout(small.depth),
    );
    expect(new Set(specs.map(({ name }) => name)).size).toBe(specs.length);
    for (const { name, layer, suffix, shape, axes } of specs) {
      expect(shape.length).toBe(axes.length);
      expect(name).toBe(layer === null ? suffix : family.layerParameter(layer, suffix));
    }
  });

  it.each([bert, gpt2])("of $name decay unless they are biases or layer norms", (family) => {
    for (const { name, decay } of family.parameters(small))
      expect(decay, name).toBe(!(name.endsWith(".bias") || /LayerNorm|\.ln_/.test(name)));
  });

  it("start as Hugging Face starts them", () => {
    const initializer = (family: ModelFamily, name: string) =>
      family.parameters(small).find((spec) => spec.name === name)?.initializer;
    expect(initializer(bert, "bert.encoder.layer.1.output.dense.weight")).toEqual({
      kind: "normal",
      deviation: 0.02,
    });
    expect(initializer(bert, "cls.predictions.bias")).toEqual({ kind: "zeros" });
    expect(initializer(gpt2, "transformer.ln_f.weight")).toEqual({ kind: "ones" });
    expect(initializer(gpt2, "transformer.h.0.attn.c_attn.weight")).toEqual({
      kind: "normal",
      deviation: 0.02,
    });
    expect(initializer(gpt2, "transformer.h.0.mlp.c_proj.weight")).toEqual({
      kind: "normal",
      deviation: 0.02 / Math.sqrt(2 * 2),
    });
  });
});

describe("a config that cannot be", () => {
  it.each([
    ["vocabSize", 0],
    ["vocabSize", 1.5],
    ["maxPositions", 0],
    ["dropout", 1],
    ["dropout", Number.NaN],
    ["attentionDropout", -0.1],
    ["layerNormEpsilon", 0],
    ["initializerRange", -1],
    ["padToken", 11],
  ])("is refused: %s %d", (key, value) => {
    for (const family of [bert, gpt2]) {
      const check = () => family.check({ ...small, [key]: value });
      expect(check).toThrow(UsageError);
      expect(check).toThrow(`model.${key}`);
    }
  });

  it("needs token types in BERT only", () => {
    expect(() => bert.check({ ...small, tokenTypes: 0 })).toThrow("model.tokenTypes");
    expect(() => gpt2.check({ ...small, tokenTypes: 0 })).not.toThrow();
  });
});

describe.each([bert, gpt2])("$name's forward pass", (family) => {
  const make = (config = small) =>
    new Map(
      family
        .parameters(config)
        .map(({ name, shape }, index) => [
          name,
          tf.tensor(stream(5).fork(index).normals(size(shape)), [...shape]).mul(0.2),
        ]),
    );
  const input = (rows: number[][], more: Partial<ModelInput> = {}): ModelInput => ({
    inputIds: tf.tensor2d(rows, undefined, "int32"),
    attentionMask: null,
    countedPositions: null,
    ...more,
  });
  const options = { layerMap: [0, 1], dropout: null };
  const run = (given: ModelInput, layerMap = [0, 1]) =>
    family.forward(make(), small, given, { layerMap, dropout: null });
  const rows = [
    [1, 2, 3, 4],
    [5, 6, 7, 8],
  ];

  it("gives the counted rows of all logits", () => {
    tf.tidy(() => {
      const all = run(input(rows));
      expect(all.shape).toEqual([8, 11]);
      const some = run(input(rows, { countedPositions: tf.tensor1d([1, 6], "int32") }));
      const expected = tf.gather(all, tf.tensor1d([1, 6], "int32"));
      expect(some.sub(expected).abs().max().dataSync()[0]).toBeLessThan(1e-6);
    });
  });

  it(family.causal ? "sees nothing that comes later" : "sees both sides", () => {
    tf.tidy(() => {
      const [first, changed] = [run(input([[1, 2, 3, 4]])), run(input([[1, 2, 3, 9]]))];
      const moved = first.sub(changed).abs().max(1).dataSync();
      for (const before of moved.subarray(0, 3)) {
        if (family.causal) expect(before).toBe(0);
        else expect(before).toBeGreaterThan(1e-4);
      }
      expect(moved[3]).toBeGreaterThan(1e-4);
    });
  });

  it("does not look at padding", () => {
    tf.tidy(() => {
      const attentionMask = tf.tensor2d([[1, 1, 1, 0]]);
      const [first, changed] = [
        run(input([[1, 2, 3, 4]], { attentionMask })),
        run(input([[1, 2, 3, 9]], { attentionMask })),
      ];
      expect([...first.sub(changed).abs().max(1).dataSync().subarray(0, 3)]).toEqual([0, 0, 0]);
    });
  });

  it("executes each layer that the map names", () => {
    tf.tidy(() => {
      const outputs = [[0, 1], [1, 0], [0], [0, 0, 1, 1]].map((layerMap) => run(input(rows), layerMap));
      for (const [index, output] of outputs.entries())
        for (const other of outputs.slice(index + 1))
          expect(output.sub(other).abs().max().dataSync()[0]).toBeGreaterThan(1e-3);
    });
  });

  it("leaves nothing behind but the logits, and its inputs alone", () => {
    const parameters = make();
    const given = input(rows, { attentionMask: tf.ones([2, 4]) });
    const before = tf.memory().numTensors;
    const output = family.forward(parameters, small, given, options);
    expect(tf.memory().numTensors).toBe(before + 1);
    expect(
      [...parameters.values(), given.inputIds, given.attentionMask!].every((one) => !one.isDisposed),
    ).toBe(true);
    tf.dispose([output, given.inputIds, given.attentionMask!, ...parameters.values()]);
  });

  it("refuses what does not fit, and says what", () => {
    tf.tidy(() => {
      expect(() => run(input([[1, 2, 3, 4, 5, 6, 7]]))).toThrow(
        "7 tokens is longer than the model's 6 positions",
      );
      expect(() => run(input(rows), [0, 2])).toThrow(EspalierError);
      expect(() => run(input(rows, { attentionMask: tf.ones([2, 3]) }))).toThrow("[2,3]");
      const parameters = make();
      const missing = family.layerParameter(1, family.layout(1).find(({ layer }) => layer === 0)!.suffix);
      parameters.delete(missing);
      expect(() => family.forward(parameters, small, input(rows), options)).toThrow(missing);
    });
  });
});

describe("dropout seeds", () => {
  const places: DropoutPlace[] = ["attention-probabilities", "attention-output", "feed-forward-output"];

  it("differ by executed layer, place and stream, and nothing else", () => {
    const seeds = new Set<number>();
    for (const step of [0, 1]) {
      const dropAt = dropoutPlaces(base, stream(1).fork(step));
      for (let layer = 0; layer < 12; layer++)
        for (const place of places) seeds.add(dropAt(layer, place).seed);
      expect(dropAt(3, "attention-output")).toEqual(
        dropoutPlaces(base, stream(1).fork(step))(3, "attention-output"),
      );
    }
    expect(seeds.size).toBe(2 * 12 * 3);
  });

  it("are not drawn where nothing is dropped", () => {
    expect(dropoutPlaces(base, null)(0, "embeddings").rate).toBe(0);
    const dropAt = dropoutPlaces({ ...base, attentionDropout: 0, embeddingDropout: 0.3 }, stream(1));
    expect(dropAt(0, "attention-probabilities").rate).toBe(0);
    expect(dropAt(-1, "embeddings").rate).toBe(0.3);
    expect(dropAt(0, "feed-forward-output").rate).toBe(0.1);
  });
});

describe("the plugin", () => {
  it("offers both families", () => {
    const made = modelsPlugin.strategies.map((one) => [
      one.kind,
      one.name,
      one.create(one.options.parse({}), {}),
    ]);
    expect(made).toEqual([
      ["family", "bert", bert],
      ["family", "gpt2", gpt2],
    ]);
  });
});
