import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EspalierError } from "@espalier/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openSafetensors } from "./safetensors-reader.js";
import { writeSafetensors } from "./safetensors-writer.js";
import { openShardedSafetensors } from "./sharded-safetensors.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "safetensors-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A file with any header text and data, right or wrong. */
async function file(name: string, header: string, data: Uint8Array = new Uint8Array()): Promise<string> {
  const text = Buffer.from(header, "utf8");
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.byteLength));
  const path = join(folder, name);
  await writeFile(path, Buffer.concat([length, text, data]));
  return path;
}

const entry = (type: string, shape: number[], begin: number, end: number): string =>
  JSON.stringify({ dtype: type, shape, data_offsets: [begin, end] });

describe("writing and reading", () => {
  it("gives every element back, scalars and empty tensors too", async () => {
    const path = join(folder, "round-trip.safetensors");
    const weight = Float32Array.from({ length: 12 }, (_, index) => Math.fround(Math.sin(index) * 1e3));
    await writeSafetensors(path, [
      { name: "h.0.weight", type: "F32", shape: [3, 4], data: () => weight },
      { name: "empty", type: "F32", shape: [0, 7], data: async () => new Float32Array(0) },
      { name: "count", type: "F32", shape: [], data: () => Float32Array.of(17) },
      { name: "ids", type: "I32", shape: [3], data: () => Int32Array.of(-1, 0, 2147483647) },
    ]);
    const source = await openSafetensors(path);
    expect([...source.tensors.keys()]).toEqual(["h.0.weight", "empty", "count", "ids"]);
    expect(source.tensors.get("h.0.weight")).toMatchObject({ type: "F32", shape: [3, 4] });
    expect(await source.readFloats("h.0.weight")).toEqual(weight);
    expect(await source.readFloats("empty")).toEqual(new Float32Array(0));
    expect(await source.readFloats("count")).toEqual(Float32Array.of(17));
    expect(await source.readIntegers("ids")).toEqual(Int32Array.of(-1, 0, 2147483647));
    await source.close();
  });

  it("writes the layout of the format: length, padded header, data, and `format: pt`", async () => {
    const path = join(folder, "layout.safetensors");
    await writeSafetensors(path, [{ name: "a", type: "F32", shape: [1], data: () => Float32Array.of(1.5) }]);
    const bytes = await readFile(path);
    const length = Number(bytes.readBigUInt64LE(0));
    expect(length % 8).toBe(0);
    expect(JSON.parse(bytes.subarray(8, 8 + length).toString())).toEqual({
      __metadata__: { format: "pt" },
      a: { dtype: "F32", shape: [1], data_offsets: [0, 4] },
    });
    expect(bytes.readFloatLE(8 + length)).toBe(1.5);
    expect(bytes.byteLength).toBe(8 + length + 4);
  });

  it("refuses data that does not fit its shape, a name given twice, and leaves no file", async () => {
    const path = join(folder, "never.safetensors");
    const tensor = { name: "w", type: "F32" as const, shape: [2, 2], data: () => new Float32Array(3) };
    await expect(writeSafetensors(path, [tensor])).rejects.toThrow(
      'tensor "w" of shape [2,2] needs 16 bytes, but has 12',
    );
    await expect(writeSafetensors(path, [tensor, tensor])).rejects.toThrow('tensor "w" is given twice');
    expect((await readdir(folder)).filter((name) => name.includes("never"))).toEqual([]);
  });

  it("keeps the old file when writing the new one fails half-way", async () => {
    const path = join(folder, "kept.safetensors");
    await writeSafetensors(path, [{ name: "a", type: "F32", shape: [1], data: () => Float32Array.of(1) }]);
    const failing = {
      name: "b",
      type: "F32" as const,
      shape: [1],
      data: () => Promise.reject(new EspalierError("ESPALIER_TEST", "device lost")),
    };
    await expect(
      writeSafetensors(path, [
        { name: "a", type: "F32", shape: [1], data: () => Float32Array.of(2) },
        failing,
      ]),
    ).rejects.toThrow("device lost");
    const source = await openSafetensors(path);
    expect(await source.readFloats("a")).toEqual(Float32Array.of(1));
    await source.close();
  });
});

describe("other element types", () => {
  it("converts half precision, subnormals and infinities too", async () => {
    const halves = Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0x7c00, 0xfc00, 0x8000, 0x3555);
    const path = await file("f16", `{"h":${entry("F16", [9], 0, 18)}}`, new Uint8Array(halves.buffer));
    const source = await openSafetensors(path);
    const values = await source.readFloats("h");
    await source.close();
    expect([...values]).toEqual([
      1,
      -2,
      2 ** -24,
      1023 * 2 ** -24,
      65504,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      -0,
      0.333251953125,
    ]);
  });

  it("converts bfloat16", async () => {
    const halves = Uint16Array.of(0x3f80, 0xc049, 0x0000, 0x7f80);
    const path = await file("bf16", `{"b":${entry("BF16", [2, 2], 0, 8)}}`, new Uint8Array(halves.buffer));
    const source = await openSafetensors(path);
    expect([...(await source.readFloats("b"))]).toEqual([1, -3.140625, 0, Number.POSITIVE_INFINITY]);
    await source.close();
  });

  it("narrows float64 and 64-bit integers, and refuses integers that do not fit", async () => {
    const data = new Uint8Array(32);
    const view = new DataView(data.buffer);
    view.setFloat64(0, 0.1, true);
    view.setBigInt64(8, -5n, true);
    view.setBigInt64(16, 9n, true);
    view.setBigInt64(24, 2n ** 40n, true);
    const header = `{"d":${entry("F64", [1], 0, 8)},"i":${entry("I64", [2], 8, 24)},"big":${entry("I64", [1], 24, 32)}}`;
    const source = await openSafetensors(await file("wide", header, data));
    expect(await source.readFloats("d")).toEqual(Float32Array.of(0.1));
    expect(await source.readIntegers("i")).toEqual(Int32Array.of(-5, 9));
    await expect(source.readIntegers("big")).rejects.toThrow('tensor "big"');
    await expect(source.readFloats("i")).rejects.toThrow(
      `tensor "i" in ${join(folder, "wide")} has the type I64, but floating-point numbers are expected`,
    );
    await expect(source.readIntegers("d")).rejects.toThrow("integers are expected");
    await expect(source.readFloats("nowhere")).rejects.toThrow('there is no tensor "nowhere"');
    await source.close();
  });
});

describe("damaged files are refused, with file and tensor named", () => {
  const data = new Uint8Array(16);
  it.each([
    ["no JSON", "{oops", "its header is not JSON"],
    ["an array", "[]", "not a JSON object"],
    ["an unknown type", `{"w":${entry("F8_E4M3", [4], 0, 4)}}`, 'tensor "w" has the element type "F8_E4M3"'],
    ["a negative size", `{"w":${entry("F32", [-4], 0, 16)}}`, 'tensor "w" has the impossible shape [-4]'],
    ["a fractional size", `{"w":${entry("F32", [1.5], 0, 16)}}`, 'tensor "w" has the impossible shape'],
    ["a backward range", `{"w":${entry("F32", [4], 16, 0)}}`, 'tensor "w" lies at bytes 16 to 0'],
    [
      "data beyond the end",
      `{"w":${entry("F32", [5], 0, 20)}}`,
      'tensor "w" lies at bytes 0 to 20, but the file holds 16',
    ],
    [
      "a size that is not the shape's",
      `{"w":${entry("F32", [3], 0, 16)}}`,
      "of shape [3] and type F32 needs 12 bytes, but 16",
    ],
    ["a product that overflows", `{"w":${entry("F32", [2 ** 40, 2 ** 40], 0, 16)}}`, 'tensor "w" of shape'],
    [
      "an overlap",
      `{"a":${entry("F32", [3], 0, 12)},"b":${entry("F32", [2], 8, 16)}}`,
      'tensors "a" and "b" overlap',
    ],
    [
      "a gap",
      `{"a":${entry("F32", [1], 0, 4)},"b":${entry("F32", [2], 8, 16)}}`,
      '4 bytes before tensor "b"',
    ],
    ["bytes left over", `{"a":${entry("F32", [2], 0, 8)}}`, "its last 8 bytes belong to no tensor"],
    [
      "a name twice",
      `{"a":${entry("F32", [2], 0, 8)},"a":${entry("F32", [2], 8, 16)}}`,
      'tensor "a" is described twice',
    ],
    [
      "a name twice, escaped",
      `{"a":${entry("F32", [2], 0, 8)},"\\u0061":${entry("F32", [2], 8, 16)}}`,
      "described twice",
    ],
    ["no description", `{"w":4}`, 'tensor "w" has no description'],
  ])("%s", async (name, header, message) => {
    const path = await file(`damaged ${name}`, header, data);
    await expect(openSafetensors(path)).rejects.toThrow(message);
    await expect(openSafetensors(path)).rejects.toMatchObject({
      code: "ESPALIER_SAFETENSORS_INVALID",
      file: path,
    });
  });

  it("a header longer than the file, a file cut off, an empty one, a missing one", async () => {
    const cut = await file("cut", `{"w":${entry("F32", [4], 0, 16)}}`, data.subarray(0, 9));
    await expect(openSafetensors(cut)).rejects.toThrow("but the file holds 9 bytes of data");
    const long = join(folder, "long");
    await writeFile(long, Buffer.from([255, 255, 255, 255, 255, 255, 255, 127, 123, 125]));
    await expect(openSafetensors(long)).rejects.toThrow("its header claims 9223372036854775807 bytes");
    const empty = join(folder, "none");
    await writeFile(empty, "");
    await expect(openSafetensors(empty)).rejects.toThrow("it has only 0 bytes");
    await expect(openSafetensors(join(folder, "missing"))).rejects.toMatchObject({
      code: "ESPALIER_READ_FAILED",
      message: expect.stringContaining("does not exist"),
    });
  });
});

describe("shards", () => {
  const index = (map: object): string => JSON.stringify({ metadata: {}, weight_map: map });

  it("reads each tensor from its own file", async () => {
    await writeSafetensors(join(folder, "one.safetensors"), [
      { name: "a", type: "F32", shape: [1], data: () => Float32Array.of(1) },
    ]);
    await writeSafetensors(join(folder, "two.safetensors"), [
      { name: "b", type: "F32", shape: [2], data: () => Float32Array.of(2, 3) },
    ]);
    const path = join(folder, "model.safetensors.index.json");
    await writeFile(path, index({ a: "one.safetensors", b: "two.safetensors" }));
    const source = await openShardedSafetensors(path);
    expect(await source.readFloats("b")).toEqual(Float32Array.of(2, 3));
    expect(await source.readFloats("a")).toEqual(Float32Array.of(1));
    await expect(source.readFloats("c")).rejects.toThrow('there is no tensor "c"');
    await source.close();
  });

  it.each([
    ["a missing shard", { a: "three.safetensors" }, "three.safetensors: it does not exist"],
    [
      "a tensor that is not where it should be",
      { b: "one.safetensors" },
      'tensor "b" should be in one.safetensors',
    ],
    ["a shard elsewhere", { a: "../one.safetensors" }, "is no file name"],
  ])("refuses %s", async (name, map, message) => {
    const path = join(folder, `index of ${name}.json`);
    await writeFile(path, index(map));
    await expect(openShardedSafetensors(path)).rejects.toThrow(message);
  });
});
