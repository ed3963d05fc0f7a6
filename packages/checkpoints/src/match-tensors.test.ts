import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ForeignTensor, ParameterSpec } from "@espalier/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ExpectedTensors, matchTensors, refuseUntied } from "./match-tensors.js";
import { openSafetensors, type TensorSource } from "./safetensors-reader.js";
import { type TensorToWrite, writeSafetensors } from "./safetensors-writer.js";

let folder: string;
const sources: TensorSource[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "matching-"));
});
afterAll(async () => {
  for (const source of sources) await source.close();
  await rm(folder, { recursive: true, force: true });
});

const spec = (name: string, shape: number[], axes: ParameterSpec["axes"]): ParameterSpec => ({
  name,
  shape,
  axes,
  inputAxis: null,
  suffix: name,
  part: name.startsWith("cls.") ? "head" : "embedding",
  layer: null,
  decay: false,
  initializer: { kind: "zeros" },
});
const foreign: readonly ForeignTensor[] = [
  { name: /^lm_head\.weight$/, what: "the head", treatment: { tiedTo: "transformer.wte.weight" } },
  { name: /^pooler\./, what: "the pooler", treatment: "leave-out" },
  { name: /\.crossattention\./, what: "cross attention", treatment: "refuse" },
];
const expected: ExpectedTensors = {
  parameters: [
    spec("transformer.wte.weight", [6, 2], ["vocabulary", "hidden"]),
    spec("transformer.wpe.weight", [4, 2], ["positions", "hidden"]),
  ],
  foreign,
  leaveOut: [],
};

const words = Float32Array.from({ length: 12 }, (_, index) => index / 7);
const tensor = (name: string, shape: number[], data?: Float32Array): TensorToWrite => ({
  name,
  type: "F32",
  shape,
  data: () => data ?? new Float32Array(shape.reduce((product, size) => product * size, 1)),
});
const right = [tensor("transformer.wte.weight", [6, 2], words), tensor("transformer.wpe.weight", [4, 2])];

async function stored(...tensors: TensorToWrite[]): Promise<TensorSource> {
  const path = join(folder, `${sources.length}.safetensors`);
  await writeSafetensors(path, tensors);
  const source = await openSafetensors(path);
  sources.push(source);
  return source;
}

describe("matching", () => {
  it("finds parameters under any generation of names, and explains the rest", async () => {
    const source = await stored(
      tensor("wte.weight", [6, 2], words),
      tensor("transformer.wpe.weight", [4, 2]),
      tensor("pooler.dense.weight", [2, 2]),
      tensor("lm_head.weight", [6, 2], words),
    );
    const match = matchTensors(source, expected);
    expect([...match.parameters].map(([name, { name: found }]) => [name, found])).toEqual([
      ["transformer.wte.weight", "wte.weight"],
      ["transformer.wpe.weight", "transformer.wpe.weight"],
    ]);
    expect(match.leftOut).toMatchObject([{ what: "the pooler", tensor: { name: "pooler.dense.weight" } }]);
    expect(match.ties).toMatchObject([{ tiedTo: "transformer.wte.weight" }]);
    await expect(refuseUntied(source, match)).resolves.toBeUndefined();
  });

  it("names every difference, in sizes of the model", async () => {
    const source = await stored(
      tensor("transformer.wte.weight", [9, 2]),
      { name: "transformer.wpe.weight", type: "I32", shape: [4, 2], data: () => new Int32Array(8) },
      tensor("transformer.h.0.crossattention.c_attn.weight", [1]),
      tensor("adapter.down.weight", [3]),
      tensor("adapter.up.weight", [3]),
    );
    expect(() => matchTensors(source, expected)).toThrow(
      `${source.file} does not hold the model that config.json describes:
  - tensor "transformer.wte.weight" has the shape [9,2], but config.json asks for [6,2]: vocabulary 9 instead of 6
  - tensor "transformer.wpe.weight" has the type I32, floating-point numbers are expected
  - tensor "transformer.h.0.crossattention.c_attn.weight" is cross attention, which is not computed
  - "adapter.down.weight" [3], "adapter.up.weight" [3] belong to nothing that config.json describes`,
    );
  });

  it.each([
    ["another position length", [right[0]!, tensor("wpe.weight", [8, 2])], "positions 8 instead of 4"],
    ["another rank", [right[0]!, tensor("wpe.weight", [8])], "1 axes instead of 2"],
    ["a missing tensor", [right[0]!], '1 of 2 parameters is missing: "transformer.wpe.weight"'],
    ["other names altogether", [tensor("model.embed", [1])], "none of the 2 parameters is there"],
    ["a parameter twice", [...right, tensor("wpe.weight", [4, 2])], "are the same parameter"],
    ["a head of another size", [...right, tensor("lm_head.weight", [5, 2])], "of shape [5,2] is untied from"],
  ])("%s", async (_, tensors, message) => {
    const source = await stored(...tensors);
    expect(() => matchTensors(source, expected)).toThrow(message);
  });

  it("says how to do without what it does not know, and does", async () => {
    const source = await stored(...right, tensor("adapter.down.weight", [3]));
    expect(() => matchTensors(source, expected)).toThrow(
      expect.objectContaining({
        code: "ESPALIER_TENSORS_DIFFER",
        exitCode: 2,
        hint: `if the model can do without: espalier import ${folder} --leave-out adapter. -o DIR`,
      }),
    );
    const match = matchTensors(source, { ...expected, leaveOut: ["adapter."] });
    expect(match.leftOut).toMatchObject([{ what: "as asked for", tensor: { name: "adapter.down.weight" } }]);
  });

  it("tells layers beyond the depth, with or without the base model's prefix", async () => {
    const layer = (index: number): ParameterSpec => ({
      ...spec(`transformer.h.${index}.ln_1.weight`, [2], ["hidden"]),
      suffix: "ln_1.weight",
      layer: index,
    });
    const deep = { ...expected, parameters: [...expected.parameters, layer(0)] };
    for (const base of ["transformer.", ""]) {
      const layers = [0, 1, 2].map((index) => tensor(`${base}h.${index}.ln_1.weight`, [2]));
      const source = await stored(...right, ...layers);
      expect(() => matchTensors(source, deep)).toThrow(
        expect.objectContaining({
          message: expect.stringContaining("it has 3 layers, but config.json describes 1"),
          hint: expect.stringContaining(`--leave-out ${base}h.1. -o DIR`),
        }),
      );
    }
  });

  it("tells a head that was saved without, which transformers can make", async () => {
    const headed = {
      ...expected,
      parameters: [...expected.parameters, spec("cls.bias", [6], ["vocabulary"])],
    };
    const source = await stored(...right);
    expect(() => matchTensors(source, headed)).toThrow(
      expect.objectContaining({ hint: expect.stringContaining("BertForMaskedLM") }),
    );
  });
});

describe("untied weights", () => {
  it("are told with how many numbers differ, by how much, and where", async () => {
    const other = words.slice();
    other[3] = other[3]! + 0.5;
    other[8] = other[8]! - 0.25;
    const source = await stored(...right, tensor("lm_head.weight", [6, 2], other));
    await expect(refuseUntied(source, matchTensors(source, expected))).rejects.toMatchObject({
      code: "ESPALIER_WEIGHTS_UNTIED",
      exitCode: 2,
      key: "lm_head.weight",
      message: expect.stringMatching(/2 of 12 numbers differ, by up to 0\.500 \(in row 1\)/),
      hint: expect.stringContaining("--leave-out lm_head.weight"),
    });
  });

  it("that are NaN on one side only, or of another precision, are no exception", async () => {
    const other = words.slice();
    other[5] = Number.NaN;
    const source = await stored(...right, tensor("lm_head.weight", [6, 2], other));
    await expect(refuseUntied(source, matchTensors(source, expected))).rejects.toThrow(
      "1 of 12 numbers differ",
    );
    const exact = Float64Array.from(words);
    const wide = await stored(...right, {
      name: "lm_head.weight",
      type: "F64",
      shape: [6, 2],
      data: () => exact,
    });
    await expect(refuseUntied(wide, matchTensors(wide, expected))).resolves.toBeUndefined();
  });
});
