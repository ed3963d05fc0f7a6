import { writeCheckpointFolder } from "@espalier/checkpoints";
import { type ModelConfig, stream } from "@espalier/core";
import { modelDescriptions } from "@espalier/models/descriptions";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { espalier, makeFolder } from "./testing/espalier.js";
import { runPython, withoutTransformers } from "./testing/transformers-peer.js";

/** What `bert2bert_reference.py` found. */
interface Comparison {
  readonly parameters: number;
  /** Largest difference of a weight, and the largest weight. */
  readonly weights: number;
  readonly largest: number;
  /** How often channels are copied. */
  readonly copied: readonly number[];
  /** Largest difference of a logit between source and target, and the standard deviation of the source's. */
  readonly logits: number;
  readonly spread: number;
}

let folder: Awaited<ReturnType<typeof makeFolder>>;

/** A model whose every parameter is drawn, the biases and gains, too: zeros and ones would hide what becomes of them. */
async function writeSource(name: string): Promise<void> {
  const family = modelDescriptions.find((each) => each.name === name)!;
  const config: ModelConfig = {
    ...family.defaults,
    family: name,
    depth: 3,
    hiddenSize: 16,
    attentionHeads: 4,
    intermediateSize: 40,
    vocabSize: 30,
    maxPositions: 8,
    dropout: 0,
    initializerRange: 0.02,
  };
  const random = stream(6);
  await writeCheckpointFolder(`${folder.path}/${name}`, {
    model: family.parameters(config).map(({ name: parameter, shape }) => ({
      name: parameter,
      type: "F32",
      shape,
      data: () => random.fork(parameter).normals(shape.reduce((product, size) => product * size, 1)),
    })),
    optimizer: null,
    state: null,
    config: family.toHuggingFace(config),
  });
}

describe.skipIf(withoutTransformers !== null)(
  `bert2BERT beside PyTorch${withoutTransformers === null ? "" : ` (${withoutTransformers})`}`,
  () => {
    beforeAll(async () => {
      folder = await makeFolder();
      await writeSource("bert");
      await writeSource("gpt2");
    });
    afterAll(() => folder.remove());

    const evenly = "hiddenSize=32,attentionHeads=8,intermediateSize=80";
    const unevenly = "hiddenSize=28,attentionHeads=7,intermediateSize=70";
    it.concurrent.each(
      ["bert", "gpt2"].flatMap((family) =>
        [
          ["fpi", "balanced", evenly],
          ["fpi", "uniform", unevenly],
          ["aki", "balanced", evenly],
          ["aki", "uniform", unevenly],
        ].map(([operator, selection, to]) => [family, operator!, selection!, to!] as const),
      ),
    )("%s by %s, %s, to %s: every weight is the paper's", async (family, operator, selection, to) => {
      const name = [family, operator, selection, to.split(",")[0]].join("-");
      const [out, map] = [name, `${name}.json`];
      const using = ["--using", operator, `selection=${selection}`, "--to", to];
      const grown = await espalier(["grow", family, ...using, "--map", map, "--out", out, "--threads", "1"], {
        cwd: folder.path,
      });
      expect(grown.code, grown.stderr).toBe(0);
      const { code, output } = runPython(
        "packages/cli/src/testing/bert2bert_reference.py",
        ...[family, map, out].map((file) => `${folder.path}/${file}`),
        operator,
      );
      expect(code, output).toBe(0);
      const compared = JSON.parse(output.trim().split("\n").at(-1)!) as Comparison;
      expect(compared.parameters).toBeGreaterThan(30);
      // A division may round differently from a product with the reciprocal: one unit in the last place.
      expect(compared.weights).toBeLessThan(compared.largest * 2 ** -23);
      expect(compared.spread).toBeGreaterThan(1);
      if (operator === "fpi" && to === evenly) {
        expect(compared.copied).toEqual([2]);
        expect(compared.logits).toBeLessThan(1e-5 * compared.spread);
      } else {
        // Layer norm sees another mean and variance, or the new units another layer.
        expect(compared.logits).toBeGreaterThan(1e-2 * compared.spread);
      }
    });
  },
);
