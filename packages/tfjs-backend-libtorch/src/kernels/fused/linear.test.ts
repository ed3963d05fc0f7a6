import { beforeAll, describe, expect, it } from "vitest";
import { largestDifference, matmul, numericGradient, transpose, valuesOf } from "../../../test/float64.js";
import { normal, runKernels, useLibtorch } from "../../../test/libtorch.js";

const ROWS = 5;
const IN = 4;
const OUT = 3;

function linear(x: number[], weight: number[], bias: number[]): number[] {
  return matmul(x, weight, IN).map((value, index) => value + (bias[index % OUT] as number));
}

describe("EspalierLinear", () => {
  beforeAll(() => useLibtorch());

  const cases = [
    { weightLayout: "in_out", shape: [IN, OUT] },
    { weightLayout: "out_in", shape: [OUT, IN] },
  ];

  it.each(cases)(
    "is x × weight + bias for $weightLayout, and so are its gradients",
    ({ weightLayout, shape }) => {
      const x = normal([ROWS, IN], 1);
      const weight = normal(shape, 2);
      const bias = normal([OUT], 3);
      const dy = normal([ROWS, OUT], 4);
      const stored = valuesOf(weight);
      const asInOut = (list: number[]) => (weightLayout === "in_out" ? list : transpose(list, IN));
      const f = (a: number[], w: number[], b: number[]) => linear(a, asInOut(w), b);
      const inputs = [valuesOf(x), stored, valuesOf(bias)];

      const [y] = runKernels("EspalierLinear", { x, weight, bias }, { weightLayout });
      expect(largestDifference(y!, f(inputs[0]!, inputs[1]!, inputs[2]!))).toBeLessThan(1e-5);

      const gradients = runKernels("EspalierLinearGrad", { dy, x, weight }, { weightLayout, hasBias: true });
      expect(gradients.map(({ shape }) => shape)).toEqual([[ROWS, IN], shape, [OUT]]);
      gradients.forEach((gradient, which) => {
        const expected = numericGradient(f as never, inputs, which, valuesOf(dy));
        expect(largestDifference(gradient, expected)).toBeLessThan(1e-4);
      });
    },
  );

  it("works without a bias", () => {
    const x = normal([ROWS, IN], 1);
    const weight = normal([IN, OUT], 2);
    const attrs = { weightLayout: "in_out" };
    const [y] = runKernels("EspalierLinear", { x, weight }, attrs);
    expect(largestDifference(y!, matmul(valuesOf(x), valuesOf(weight), IN))).toBeLessThan(1e-5);
    expect(
      runKernels("EspalierLinearGrad", { dy: y!, x, weight }, { ...attrs, hasBias: false }),
    ).toHaveLength(2);
  });

  it("takes inputs in any strides", () => {
    const x = normal([IN, ROWS], 1).transpose();
    const weight = normal([IN, OUT], 2);
    const [y] = runKernels("EspalierLinear", { x, weight }, { weightLayout: "in_out" });
    expect(largestDifference(y!, matmul(valuesOf(x), valuesOf(weight), IN))).toBeLessThan(1e-5);
  });

  it("names itself when shapes do not fit", () => {
    const inputs = { x: normal([ROWS, IN], 1), weight: normal([IN + 1, OUT], 2) };
    expect(() => runKernels("EspalierLinear", inputs, { weightLayout: "in_out" })).toThrow(
      /aten::mm: mat1 and mat2/,
    );
  });
});
