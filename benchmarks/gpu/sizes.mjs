// The models of the GPU benchmark, and small ones in their place where the script itself is tried on a CPU.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const seed = 7;
const large = {
  bertBase128: {
    family: "bert",
    depth: 12,
    hidden: 768,
    heads: 12,
    batch: 256,
    sequence: 128,
    vocabulary: 30522,
  },
  bertBase512: {
    family: "bert",
    depth: 12,
    hidden: 768,
    heads: 12,
    batch: 64,
    sequence: 512,
    vocabulary: 30522,
  },
  gpt2Base1024: {
    family: "gpt2",
    depth: 12,
    hidden: 768,
    heads: 12,
    batch: 16,
    sequence: 1024,
    vocabulary: 50257,
  },
};

/** A model's size on a device. */
export function sizeOf(name, device) {
  const size = { ...large[name], seed };
  if (device !== "cpu") return size;
  return { ...size, depth: 2, hidden: 64, heads: 2, batch: 2, sequence: size.sequence / 4, vocabulary: 512 };
}

export const precision = "bf16";

/** The definition and overrides that `espalier bench` takes for a size. */
export function definitionOf(size) {
  const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
  const isBert = size.family === "bert";
  return [
    join(root, "benchmarks/definitions", isBert ? "bert-12x256.yaml" : "gpt2-12x256.yaml"),
    `model.depth=${size.depth}`,
    `model.hiddenSize=${size.hidden}`,
    `model.attentionHeads=${size.heads}`,
    `model.intermediateSize=${4 * size.hidden}`,
    `data.sequenceLength=${size.sequence}`,
    `data.tokenizer.vocabSize=${size.vocabulary}`,
    `training.batchSize=${size.batch}`,
    `training.precision=${precision}`,
  ];
}
