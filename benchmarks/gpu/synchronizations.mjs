// Whether a training step makes the host wait for the GPU, and how far the host is ahead of it: the seconds in which a step
// is started, beside those in which it is done. `node synchronizations.mjs DEVICE`
import { loadBackend } from "@espalier/backends";
import { identityLayerMap, stream } from "@espalier/core";
import { causalLm, maskedLm, maskedLmDefaults } from "@espalier/data";
import { disposeParameters, initializeParameters, weightsOf } from "@espalier/growth";
import { bert, gpt2 } from "@espalier/models";
import { synchronize, withoutSynchronization } from "@espalier/tfjs-backend-libtorch/parts";
import { adamWOptimizer } from "@espalier/trainer";
import * as tf from "@tensorflow/tfjs";
// The parts of the training loop that run within a step: not the package's interface, which reads losses back.
import { applyGradients } from "../../packages/trainer/dist/apply-gradients.js";
import {
  differentiate,
  disposeBatch,
  toDevice,
  trainedParameters,
} from "../../packages/trainer/dist/micro-step.js";
import { decayOf } from "../../packages/trainer/dist/parameters.js";
import { precision, sizeOf } from "./sizes.mjs";

const [device] = process.argv.slice(2);
const timedSteps = 5;
await loadBackend({ backend: "libtorch", device });

function prepared(family, size, random) {
  const tokens = Int32Array.from({ length: size.batch * size.sequence }, (_, place) =>
    random.integer(size.vocabulary, place),
  );
  const tokenizer = {
    vocabSize: size.vocabulary,
    maskToken: 4,
    padToken: 0,
    endOfText: null,
    specialTokens: [0, 1, 2, 3, 4],
  };
  const objective = family.causal ? causalLm() : maskedLm(maskedLmDefaults, tokenizer);
  return objective.prepare(tokens, size.batch, size.sequence, random.fork("masks"));
}

async function examine(family, size) {
  const config = {
    ...family.defaults,
    family: family.name,
    depth: size.depth,
    hiddenSize: size.hidden,
    attentionHeads: size.heads,
    intermediateSize: 4 * size.hidden,
    vocabSize: size.vocabulary,
    maxPositions: size.sequence,
    dropout: 0.1,
    initializerRange: 0.02,
  };
  const random = stream(size.seed);
  const parameters = initializeParameters(family, config, random);
  const layerMap = identityLayerMap(config.depth);
  const trained = trainedParameters(family.layout(config.depth), layerMap, "all");
  const decays = decayOf(family, config);
  const optimizer = adamWOptimizer({
    learningRate: 1e-4,
    weightDecay: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
  });
  const host = prepared(family, size, random);
  const start = (step) => {
    const batch = toDevice(host);
    const gradients = new Map();
    const loss = differentiate({
      family,
      config,
      weights: weightsOf(parameters),
      trained,
      batch,
      layerMap,
      dropout: random.fork("dropout").fork(step),
      compute: { precision },
      scale: 1,
      sums: gradients,
    });
    disposeBatch(batch);
    const norm = applyGradients(gradients, {
      parameters,
      names: trained,
      decays,
      optimizer,
      learningRate: 1e-4,
      clipNorm: 1,
    });
    return [loss, norm];
  };
  try {
    // The first steps load kernels and grow the allocator's pools, which may wait.
    for (let step = 0; step < 2; step++) tf.dispose(start(step));
    synchronize();
    let watched = false;
    let waits = null;
    try {
      const watching = withoutSynchronization(() => start(2));
      watched = watching.watched;
      tf.dispose(watching.result);
      waits = 0;
    } catch (error) {
      if (!/synchronizing CUDA operation/.test(error.message)) throw error;
      watched = true;
      waits = error.message;
    }
    synchronize();
    const began = performance.now();
    for (let step = 3; step < 3 + timedSteps; step++) tf.dispose(start(step));
    const started = performance.now();
    synchronize();
    const done = performance.now();
    return {
      watched,
      // 0, or the operator that waited.
      synchronizations: watched ? waits : null,
      startedSecondsPerStep: (started - began) / 1000 / timedSteps,
      doneSecondsPerStep: (done - began) / 1000 / timedSteps,
    };
  } finally {
    disposeParameters(parameters);
  }
}

const results = {
  bert: await examine(bert, sizeOf("bertBase512", device)),
  gpt2: await examine(gpt2, sizeOf("gpt2Base1024", device)),
};
console.log(JSON.stringify(results));
const waiting = Object.values(results).filter(({ synchronizations }) => typeof synchronizations === "string");
for (const { synchronizations } of waiting) console.error(`error: ${synchronizations}`);
process.exitCode = waiting.length === 0 ? 0 : 1;
