import * as tf from "@tensorflow/tfjs";
import { realText, runTiny, tinyGpt2 } from "./tiny-run.test-support.js";

// A process of its own, to be killed: trains in the folder given, resuming what is there. On TensorFlow.js's own CPU
// engine, which needs nothing beside the bundle that a test makes of this file.
await tf.setBackend("cpu");
const [folder = "", steps = "0"] = process.argv.slice(2);
await runTiny(folder, await realText(20_000), {
  steps: Number(steps),
  config: { ...tinyGpt2, hiddenSize: 8, intermediateSize: 16 },
  batchSize: 2,
  evaluation: { every: 7, batches: 1 },
  checkpoints: { every: 5, keep: 2 },
  resume: true,
});
