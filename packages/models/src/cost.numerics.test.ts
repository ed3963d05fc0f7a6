import { loadBackend } from "@espalier/backends";
import type { LayerMap, ModelConfig, ModelFamily, StepLoad } from "@espalier/core";
import { softmaxCrossEntropy, withoutFusedKernels } from "@espalier/ops";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { bert } from "./bert.js";
import { gpt2 } from "./gpt2.js";

beforeAll(async () => {
  await loadBackend({ backend: process.env.ESPALIER_BACKEND });
});

/** FLOPs of the matrix products in one kernel call, from the shapes that it really gets. */
function productFlops(name: string, inputs: tf.NamedTensorMap, attributes: object | undefined): number {
  const shape = (input: string) => inputs[input]!.shape;
  if (name === "BatchMatMul" || name === "_FusedMatMul") {
    const [rows, inner] = shape("a").slice(-2) as [number, number];
    const batch = shape("a")
      .slice(0, -2)
      .reduce((product, axis) => product * axis, 1);
    const { transposeA, transposeB } = attributes as { transposeA: boolean; transposeB: boolean };
    const columns = shape("b").at(transposeB ? -2 : -1)!;
    return 2 * batch * (transposeA ? inner * rows : rows * inner) * columns;
  }
  // The weights of a kernel's products, each of which takes as many rows as x has.
  const matrices = Object.entries(inputs).filter(([input]) => input.startsWith("weight"));
  if (matrices.length > 0)
    return matrices.reduce((sum, [, weight]) => sum + 2 * shape("x")[0]! * weight.size, 0);
  if (name === "EspalierAttention") {
    const [batch, heads, sequence, channels] = shape("q") as [number, number, number, number];
    return 2 * 2 * batch * heads * sequence * sequence * channels;
  }
  if (name === "EspalierPackedAttention") {
    const [rows, packed] = shape("packed") as [number, number];
    return (2 * 2 * rows * (attributes as { sequenceLength: number }).sequenceLength * packed) / 3;
  }
  return 0;
}

/** Runs `compute` and adds up the products of every kernel that the engine is asked to run. */
function executedFlops(compute: () => unknown): number {
  const engine = tf.engine();
  const original = engine.runKernel;
  let flops = 0;
  engine.runKernel = (name, inputs, attributes) => {
    flops += productFlops(name, inputs, attributes);
    return original.call(engine, name, inputs, attributes) as never;
  };
  try {
    compute();
  } finally {
    engine.runKernel = original;
  }
  return flops;
}

const config: ModelConfig = {
  family: "",
  depth: 3,
  hiddenSize: 12,
  attentionHeads: 3,
  intermediateSize: 20,
  vocabSize: 17,
  maxPositions: 9,
  dropout: 0,
  layerNormEpsilon: 1e-5,
  initializerRange: 0.02,
  tokenTypes: 2,
};
const batchSize = 2;
const sequenceLength = 7;

const runs: readonly { family: ModelFamily; layerMap: LayerMap; counted: readonly number[] | null }[] = [
  bert,
  gpt2,
].flatMap((family) => [
  { family, layerMap: [0, 1, 2], counted: [1, 4, 9] },
  { family, layerMap: [0, 0, 1, 1, 2], counted: [0, 2, 3, 8, 13] },
  { family, layerMap: [1], counted: null },
]);

describe.each(runs)(
  "$family.name through layers $layerMap, counting $counted",
  ({ family, layerMap, counted }) => {
    const load: StepLoad = {
      batchSize,
      sequenceLength,
      executedLayers: layerMap.length,
      countedPositions: counted?.length ?? batchSize * sequenceLength,
    };

    function makeForward(): { forward: (...given: tf.Tensor[]) => tf.Tensor2D; weights: tf.Tensor[] } {
      const specs = family.parameters(config);
      const input = {
        inputIds: tf.ones<tf.Rank.R2>([batchSize, sequenceLength], "int32"),
        attentionMask: null,
        countedPositions: counted === null ? null : tf.tensor1d([...counted], "int32"),
      };
      return {
        weights: specs.map(({ shape }) => tf.randomNormal([...shape], 0, 0.1, "float32", 3)),
        forward: (...given) =>
          family.forward(new Map(specs.map(({ name }, index) => [name, given[index]!])), config, input, {
            layerMap,
            dropout: null,
          }),
      };
    }

    it("executes exactly the products that the closed form counts", () => {
      tf.tidy(() => {
        const { forward, weights } = makeForward();
        const { forwardFlops } = family.cost(config, load);
        expect(executedFlops(() => forward(...weights))).toBe(forwardFlops);
        expect(executedFlops(() => withoutFusedKernels(() => forward(...weights)))).toBe(forwardFlops);
      });
    });

    it("executes three times as many in a training step", () => {
      tf.tidy(() => {
        const { forward, weights } = makeForward();
        const labels = tf.zeros<tf.Rank.R1>([load.countedPositions], "int32");
        const loss = (...given: tf.Tensor[]) => softmaxCrossEntropy(forward(...given), labels);
        // Unused layers of a layer map have no gradient, so that only the ones in use are asked for.
        const used = weights.filter((_, index) => {
          const { layer } = family.layout(config.depth)[index]!;
          return layer === null || layerMap.includes(layer);
        });
        const compute = (...given: tf.Tensor[]) =>
          loss(...weights.map((weight) => (used.includes(weight) ? given[used.indexOf(weight)]! : weight)));
        const executed = executedFlops(() => withoutFusedKernels(() => tf.grads(compute)(used)));
        expect(executed).toBe(family.cost(config, load).trainingFlops);
      });
    });
  },
);
