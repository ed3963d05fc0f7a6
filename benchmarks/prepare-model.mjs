// Writes the weights and batches of one case, which every process of the benchmark then loads:
// `node prepare-model.mjs FOLDER '{"family":"bert","depth":12,…}'`
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeCheckpointFolder } from "@espalier/checkpoints";
import { stream } from "@espalier/core";
import { disposeParameters, initializeParameters, weightsOf } from "@espalier/growth";
import { bert, gpt2 } from "@espalier/models";
import { weightsToWrite } from "@espalier/trainer";
import * as tf from "@tensorflow/tfjs";
import { makeBatches } from "./harness/batches.mjs";

const [folder, text] = process.argv.slice(2);
const model = JSON.parse(text);
// Written once and read by all: no engine's speed matters here, and this one is always there.
await tf.setBackend("cpu");
const family = model.family === "bert" ? bert : gpt2;
const config = {
  ...family.defaults,
  family: model.family,
  depth: model.depth,
  hiddenSize: model.hidden,
  attentionHeads: model.heads,
  intermediateSize: 4 * model.hidden,
  vocabSize: model.vocabulary,
  maxPositions: model.sequence,
  dropout: 0,
  initializerRange: 0.02,
};
const parameters = initializeParameters(family, config, stream(model.seed));
await writeCheckpointFolder(
  folder,
  {
    model: weightsToWrite(weightsOf(parameters)),
    optimizer: null,
    state: null,
    config: family.toHuggingFace(config),
  },
  "replace",
);
disposeParameters(parameters);
writeFileSync(join(folder, "batches.json"), JSON.stringify({ batches: makeBatches({ ...model, count: 4 }) }));
