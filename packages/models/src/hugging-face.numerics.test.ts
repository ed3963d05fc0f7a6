import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { loadBackend } from "@espalier/backends";
import { openSafetensors } from "@espalier/checkpoints";
import {
  identityLayerMap,
  type LayerMap,
  type ModelConfig,
  type ModelFamily,
  type ModelInput,
  type ParameterState,
  stream,
} from "@espalier/core";
import { adamW, clipByGlobalNorm, globalNorm, softmaxCrossEntropy, withoutFusedKernels } from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bert } from "./bert.js";
import { gpt2 } from "./gpt2.js";

// What tools/make-fixtures.py wrote: Hugging Face's own models, computed in float64.
const families: readonly ModelFamily[] = [bert, gpt2];

interface ReferenceCase {
  readonly layerMap: LayerMap;
  readonly loss: number;
  readonly globalGradientNorm: number;
  readonly gradientNorms: { readonly [name: string]: number };
}

interface Reference {
  readonly cases: { readonly [name: string]: ReferenceCase };
  readonly training: {
    readonly learningRate: number;
    readonly weightDecay: number;
    readonly clip: number;
    readonly losses: readonly number[];
    readonly gradientNorms: readonly number[];
  };
}

interface Batch {
  readonly input_ids: number[][];
  readonly attention_mask: number[][];
  readonly labels: number[][];
}

const caseNames = ["identity", "interpolated", "stacked", "arbitrary"];
const worst = (values: Iterable<number>) => [...values].reduce((most, value) => Math.max(most, value), 0);

describe.each(families)("$name beside Hugging Face's", (family) => {
  let config: ModelConfig;
  let weights: Map<string, Float32Array>;
  let logits: Map<string, Float32Array>;
  let reference: Reference;
  let batch: Batch;

  beforeAll(async () => {
    await loadBackend({ backend: process.env.ESPALIER_BACKEND });
    const path = (name: string) =>
      fileURLToPath(new URL(`../fixtures/${family.name}/${name}`, import.meta.url));
    const json = async (name: string) => JSON.parse(await readFile(path(name), "utf8"));
    const floats = async (name: string) => {
      const file = await openSafetensors(path(name));
      const read = new Map<string, Float32Array>();
      for (const tensor of file.tensors.keys()) read.set(tensor, await file.readFloats(tensor));
      await file.close();
      return read;
    };
    config = family.fromHuggingFace(await json("config.json"));
    weights = await floats("model.safetensors");
    logits = await floats("reference.safetensors");
    reference = await json("reference.json");
    batch = await json("batch.json");
  });

  const held: tf.Tensor[] = [];
  const hold = <T extends tf.Tensor>(tensor: T): T => {
    held.push(tensor);
    return tensor;
  };
  afterAll(() => tf.dispose(held));

  function makeParameters(): Map<string, tf.Tensor> {
    return new Map(
      family
        .parameters(config)
        .map(({ name, shape }) => [name, hold(tf.tensor(weights.get(name)!, [...shape]))]),
    );
  }

  function makeInput(countedPositions: tf.Tensor1D | null): ModelInput {
    return {
      inputIds: hold(tf.tensor2d(batch.input_ids, undefined, "int32")),
      attentionMask: hold(tf.tensor2d(batch.attention_mask)),
      countedPositions,
    };
  }

  /** The positions that count and the tokens wanted there; causal models predict the next token. */
  function counted(): { positions: tf.Tensor1D; labels: tf.Tensor1D } {
    const ahead = family.causal ? 1 : 0;
    const positions: number[] = [];
    const labels: number[] = [];
    for (const [row, rowLabels] of batch.labels.entries())
      for (const [column, label] of rowLabels.entries())
        if (label !== -100 && column >= ahead) {
          positions.push(row * rowLabels.length + column - ahead);
          labels.push(label);
        }
    return { positions: hold(tf.tensor1d(positions, "int32")), labels: hold(tf.tensor1d(labels, "int32")) };
  }

  function lossAndGradients(parameters: Map<string, tf.Tensor>, layerMap: LayerMap) {
    const { positions, labels } = counted();
    const input = makeInput(positions);
    const compute = () =>
      softmaxCrossEntropy(family.forward(parameters, config, input, { layerMap, dropout: null }), labels);
    return tf.valueAndGrads(compute)([...parameters.values()]);
  }

  it("stores exactly the parameters that Hugging Face saves, in their shapes", async () => {
    const specs = family.parameters(config);
    expect(specs.map(({ name }) => name).sort()).toEqual([...weights.keys()].sort());
    for (const { name, shape } of specs)
      expect(shape.reduce((size, axis) => size * axis, 1)).toBe(weights.get(name)!.length);
  });

  describe.each(caseNames)("%s layers", (name) => {
    it("has its logits", () => {
      const parameters = makeParameters();
      const { layerMap } = reference.cases[name]!;
      const ours = hold(family.forward(parameters, config, makeInput(null), { layerMap, dropout: null }));
      const expected = logits.get(name)!;
      expect(ours.size).toBe(expected.length);
      expect(worst([...ours.dataSync()].map((value, at) => Math.abs(value - expected[at]!)))).toBeLessThan(
        1e-5,
      );
    });

    it.each([
      ["as the engine runs it", <T>(compute: () => T) => compute()],
      ["composed", withoutFusedKernels],
    ])("has its loss and gradient norms, %s", (_, path) => {
      const parameters = makeParameters();
      const expected = reference.cases[name]!;
      const { value, grads } = path(() => lossAndGradients(parameters, expected.layerMap));
      hold(value);
      expect(Math.abs(value.dataSync()[0]! - expected.loss)).toBeLessThan(1e-5);
      const errors = [...parameters.keys()].map((parameter, index) => {
        const norm = hold(tf.norm(hold(grads[index]!))).dataSync()[0]!;
        const wanted = expected.gradientNorms[parameter]!;
        return Math.abs(norm - wanted) / Math.max(wanted, 1e-3);
      });
      expect(worst(errors)).toBeLessThan(1e-4);
      const total = hold(globalNorm(grads)).dataSync()[0]!;
      expect(Math.abs(total / expected.globalGradientNorm - 1)).toBeLessThan(1e-5);
    });
  });

  it("follows its AdamW trajectory with clipping, and leaves no tensor behind", () => {
    const { learningRate, weightDecay, clip, losses, gradientNorms } = reference.training;
    const specs = family.parameters(config);
    const states = new Map<string, ParameterState>();
    for (const { name, shape } of specs)
      states.set(name, {
        weight: tf.tensor(weights.get(name)!, [...shape]),
        firstMoment: tf.zeros([...shape]),
        secondMoment: tf.zeros([...shape]),
        stepCount: tf.scalar(0),
      });
    const { positions, labels } = counted();
    const input = makeInput(positions);
    const options = { layerMap: identityLayerMap(config.depth), dropout: null };
    const ours: { loss: number; norm: number }[] = [];
    const tensors: number[] = [];
    for (let step = 0; step < losses.length; step++) {
      const parameters = new Map([...states].map(([name, { weight }]) => [name, weight]));
      const { value, grads } = tf.valueAndGrads(() =>
        softmaxCrossEntropy(family.forward(parameters, config, input, options), labels),
      )([...parameters.values()]);
      const norm = globalNorm(grads);
      clipByGlobalNorm(grads, norm, clip);
      adamW(
        specs.map(({ name, decay }, index) => ({
          name,
          state: states.get(name)!,
          gradient: grads[index]!,
          decay,
        })),
        { learningRate, weightDecay, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
      );
      ours.push({ loss: value.dataSync()[0]!, norm: norm.dataSync()[0]! });
      tf.dispose([value, norm, grads]);
      tensors.push(tf.memory().numTensors);
    }
    expect(new Set(tensors).size).toBe(1);
    expect(worst(ours.map(({ loss }, step) => Math.abs(loss - losses[step]!)))).toBeLessThan(1e-5);
    expect(worst(ours.map(({ norm }, step) => Math.abs(norm / gradientNorms[step]! - 1)))).toBeLessThan(1e-4);
    for (const state of states.values()) tf.dispose(Object.values(state));
  });

  it("with dropout is a function of the stream, and leaves no tensor behind", () => {
    const parameters = makeParameters();
    const { positions, labels } = counted();
    const input = makeInput(positions);
    const dropping = { ...config, dropout: 0.2 };
    const layerMap = [0, 0, 1, 2];
    const step = (seed: number) => {
      const options = { layerMap, dropout: stream(seed).fork("dropout") };
      const { value, grads } = tf.valueAndGrads(() =>
        softmaxCrossEntropy(family.forward(parameters, dropping, input, options), labels),
      )([...parameters.values()]);
      const norm = globalNorm(grads);
      const read = [value.dataSync()[0]!, norm.dataSync()[0]!];
      tf.dispose([value, grads, norm]);
      return read;
    };
    const first = step(1);
    const before = tf.memory().numTensors;
    expect(step(1)).toEqual(first);
    expect(step(2)).not.toEqual(first);
    for (let seed = 3; seed < 13; seed++) step(seed);
    expect(tf.memory().numTensors).toBe(before);
  });
});
