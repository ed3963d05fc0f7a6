// Our side of the benchmark: one process that trains one model on one engine and answers requests, a JSON object a line,
// as peers/peer.py does. `node ours.mjs --backend libtorch --threads 2`
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { loadBackend } from "@espalier/backends";
import { openCheckpoint } from "@espalier/checkpoints";
import { identityLayerMap, shapeOf, stream } from "@espalier/core";
import { applyGrowthMap, disposeParameters, initializeParameters } from "@espalier/growth";
import { bert, gpt2 } from "@espalier/models";
import { interpolationExpander } from "@espalier/plugin-interpolation";
import { adamWOptimizer, loadTrainingParameters, recogniseModel, trainingSteps } from "@espalier/trainer";
import * as tf from "@tensorflow/tfjs";
import { preparedBatch } from "./harness/batches.mjs";

const { values: options } = parseArgs({
  options: {
    backend: { type: "string", default: "libtorch" },
    threads: { type: "string", default: "2" },
  },
});

/** The model that this process trains. */
class Ours {
  static async open(request) {
    const checkpoint = await openCheckpoint(request.folder);
    try {
      const { family, config } = recogniseModel(checkpoint.config, [bert, gpt2], request.folder);
      const parameters = await loadTrainingParameters(checkpoint, family, config, "none");
      return new Ours(request, family, { ...config, dropout: request.dropout }, parameters);
    } finally {
      await checkpoint.close();
    }
  }

  constructor(request, family, config, parameters) {
    const optimizer = adamWOptimizer({
      learningRate: request.learningRate,
      weightDecay: request.weightDecay,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
    });
    const compute = { precision: request.precision };
    this.model = { family, config, parameters, optimizer, gradientClipNorm: request.clip, compute };
    const { batches } = JSON.parse(readFileSync(request.batches, "utf8"));
    this.batches = batches.map((batch) => preparedBatch(batch, family.causal));
    this.layerLists = request.layerLists ?? [identityLayerMap(config.depth)];
    this.random = stream(request.seed);
    this.training = trainingSteps(this.model);
    this.steps = 0;
  }

  describe() {
    let parameters = 0;
    for (const { weight } of this.model.parameters.values()) parameters += weight.size;
    return { parameters };
  }

  loss() {
    return this.training.loss(this.batches[0], this.layerLists[0]);
  }

  async step(dropping, layerList) {
    const step = this.steps++;
    const batch = this.batches[step % this.batches.length];
    const layers = layerList ?? this.layerLists[step % this.layerLists.length];
    const dropout = dropping ? this.random.fork("dropout").fork(step) : null;
    const { loss } = await this.training.step(batch, layers, dropout);
    return loss;
  }

  /** Seconds of a growth step from half the depth with its moments, in this process beside the trained model. */
  async grow(times) {
    const { family, config } = this.model;
    const half = { ...config, depth: Math.max(1, Math.floor(config.depth / 2)) };
    const expander = interpolationExpander({ mode: "nearest", moments: "carry" });
    const seconds = [];
    for (let time = 0; time < times; time++) {
      const small = initializeParameters(family, half, this.random);
      await settle(small);
      const began = performance.now();
      const map = expander.plan(shapeOf(half), shapeOf(config), family, this.random.fork("growth"));
      const grown = applyGrowthMap(map, small, { config, family, random: this.random });
      await settle(grown);
      seconds.push((performance.now() - began) / 1000);
      disposeParameters(grown);
    }
    return seconds;
  }
}

async function settle(parameters) {
  await [...parameters.values()].at(-1).stepCount.data();
}

/** Seconds of each matrix product, the best of several; see peers/products.py. */
async function timeProducts(products) {
  const seconds = [];
  for (const product of products) {
    const { batch, m, n, k, transposeA, transposeB } = product;
    const a = tf.randomNormal([batch, ...(transposeA ? [k, m] : [m, k])]);
    const b = tf.randomNormal([batch, ...(transposeB ? [n, k] : [k, n])]);
    let best = Number.POSITIVE_INFINITY;
    for (let spent = 0; spent < product.seconds; ) {
      const began = performance.now();
      const out = tf.matMul(a, b, transposeA, transposeB);
      const taken = (performance.now() - began) / 1000;
      out.dispose();
      best = Math.min(best, taken);
      spent += taken;
    }
    tf.dispose([a, b]);
    seconds.push(best);
  }
  return seconds;
}

let engine;
let ours;

async function answer(request) {
  if (request.do === "open") {
    engine ??= await loadBackend({ backend: options.backend, threads: Number(options.threads) });
    ours = await Ours.open(request);
    return { version: `${engine.name} ${engine.version}`, device: engine.device, ...ours.describe() };
  }
  if (ours === undefined) throw new Error(`${request.do} before open`);
  if (request.do === "loss") return { loss: await ours.loss() };
  if (request.do === "trajectory") {
    const losses = [];
    for (let step = 0; step < request.steps; step++) losses.push(await ours.step(false));
    return { losses };
  }
  if (request.do === "train") {
    const seconds = [];
    const losses = [];
    for (let step = 0; step < request.steps; step++) {
      const began = performance.now();
      losses.push(await ours.step(true, request.layers));
      seconds.push((performance.now() - began) / 1000);
    }
    // Of a GPU its own memory, as PyTorch's allocator counts it; else the process's.
    const peakBytes = tf.memory().devicePeakBytes ?? process.resourceUsage().maxRSS * 1024;
    return { seconds, losses, peakBytes };
  }
  if (request.do === "grow") return { seconds: await ours.grow(request.times) };
  if (request.do === "products") return { seconds: await timeProducts(request.products) };
  throw new Error(`unknown request "${request.do}"`);
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request.do === "close") break;
  const reply = await answer(request).catch((error) => ({ error: String(error.message).split("\n")[0] }));
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
