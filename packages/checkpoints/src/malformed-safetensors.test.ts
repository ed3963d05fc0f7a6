import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { EspalierError, stream } from "@espalier/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { elementCount } from "./safetensors-header.js";
import { openSafetensors } from "./safetensors-reader.js";
import { openShardedSafetensors } from "./sharded-safetensors.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "malformed-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A file with any header and data; its length field says what it likes. */
async function file(
  name: string,
  header: string | Uint8Array,
  data: Uint8Array = new Uint8Array(16),
  claimed?: bigint,
): Promise<string> {
  const text = typeof header === "string" ? Buffer.from(header, "utf8") : header;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claimed ?? BigInt(text.byteLength));
  const path = join(folder, name.replaceAll(/\W/g, "-"));
  await writeFile(path, Buffer.concat([length, text, data]));
  return path;
}

const tensor = (shape: string, offsets: string, dtype = '"F32"'): string =>
  `{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}`;

describe("a header is refused, with file and tensor", () => {
  it.each([
    ["of no length", "", "its header is not JSON"],
    ["that is not UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]), "not UTF-8"],
    ["with half a character at its end", Buffer.from([0x7b, 0x7d, 0xe2, 0x82]), "not UTF-8"],
    ["with a mark of byte order", "\ufeff{}", "not JSON"],
    ["of nulls", "\0\0\0\0\0\0\0\0", "not JSON"],
    ["that is null", "null", "not a JSON object"],
    ["that is a text", '"weights"', "not a JSON object"],
    ["nested without end", "[".repeat(100_000), "not JSON"],
    ["with metadata of numbers", '{"__metadata__":{"format":1}}', "__metadata__ holds more than texts"],
    ["with two metadata", '{"__metadata__":{},"__metadata__":{}}', '"__metadata__" is described twice'],
    ["without offsets", '{"w":{"dtype":"F32","shape":[4]}}', 'tensor "w" has impossible data_offsets'],
    ["with one offset", `{"w":${tensor("[4]", "[16]")}}`, 'tensor "w" has impossible data_offsets [16]'],
    ["with three offsets", `{"w":${tensor("[4]", "[0,8,16]")}}`, "data_offsets [0,8,16]"],
    ["with a negative offset", `{"w":${tensor("[4]", "[-16,0]")}}`, "data_offsets [-16,0]"],
    ["with a fractional offset", `{"w":${tensor("[4]", "[0,15.5]")}}`, "data_offsets [0,15.5]"],
    [
      "with an offset of 2^64",
      `{"w":${tensor("[4]", "[0,18446744073709551616]")}}`,
      "impossible data_offsets",
    ],
    ["with an endless offset", `{"w":${tensor("[4]", "[0,1e999]")}}`, "impossible data_offsets"],
    ["with a written offset", `{"w":${tensor("[4]", '["0","16"]')}}`, 'data_offsets ["0","16"]'],
    ["beyond the end", `{"w":${tensor("[8]", "[0,32]")}}`, "lies at bytes 0 to 32, but the file holds 16"],
    [
      "with a shape that does not fit",
      `{"w":${tensor("[3]", "[0,16]")}}`,
      'tensor "w" of shape [3] and type F32 needs 12 bytes, but 16 are given',
    ],
    [
      "with a type that does not fit",
      `{"w":${tensor("[4]", "[0,16]", '"F16"')}}`,
      "of shape [4] and type F16 needs 8 bytes, but 16 are given",
    ],
    ["with an unknown type", `{"w":${tensor("[4]", "[0,16]", '"F31"')}}`, 'has the element type "F31"'],
    ["with no type", `{"w":${tensor("[4]", "[0,16]", "null")}}`, "has the element type null"],
    ["with a shape that overflows", `{"w":${tensor("[4294967296,4294967296]", "[0,16]")}}`, 'tensor "w"'],
    [
      "with a shape of endless zeros",
      `{"w":${tensor(`[${"9007199254740991,".repeat(40)}0]`, "[0,0]")},"rest":${tensor("[4]", "[0,16]")}}`,
      'tensor "w"',
    ],
    ["with a nested shape", `{"w":${tensor("[[4]]", "[0,16]")}}`, "impossible shape [[4]]"],
    [
      "with two shapes",
      `{"w":{"dtype":"F32","shape":[4],"shape":[4],"data_offsets":[0,16]}}`,
      '"w" has "shape" twice',
    ],
    [
      "with two tensors of a name",
      `{"w":${tensor("[2]", "[0,8]")},"v":${tensor("[2]", "[8,16]")},"\\u0077":${tensor("[2]", "[8,16]")}}`,
      'tensor "w" is described twice',
    ],
    [
      "with the same bytes twice",
      `{"a":${tensor("[4]", "[0,16]")},"b":${tensor("[4]", "[0,16]")}}`,
      'tensors "a" and "b" overlap',
    ],
    [
      "with a tensor within another",
      `{"a":${tensor("[4]", "[0,16]")},"b":${tensor("[1]", "[4,8]")}}`,
      'tensors "a" and "b" overlap',
    ],
    [
      "with an empty tensor within another",
      `{"a":${tensor("[4]", "[0,16]")},"b":${tensor("[0]", "[4,4]")}}`,
      'tensors "a" and "b" overlap',
    ],
    [
      "with a hole at the beginning",
      `{"w":${tensor("[3]", "[4,16]")}}`,
      '4 bytes before tensor "w" belong to none',
    ],
    ["with a hole at the end", `{"w":${tensor("[3]", "[0,12]")}}`, "last 4 bytes belong to no tensor"],
    ["with no tensors over data", "{}", "last 16 bytes belong to no tensor"],
  ] as const)("%s", async (name, header, message) => {
    const path = await file(name, header);
    const error = await openSafetensors(path).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(EspalierError);
    expect(error).toMatchObject({ code: "ESPALIER_SAFETENSORS_INVALID", file: path });
    expect((error as Error).message).toContain(message);
    expect((error as Error).message).toContain(path);
  });

  it("longer than the file, or than any real one, before it is read", async () => {
    const long = await file("long", "{}", new Uint8Array(16), 19n);
    await expect(openSafetensors(long)).rejects.toThrow("its header claims 19 bytes, but the file has 26");
    const endless = await file("endless", "{}", new Uint8Array(16), 2n ** 64n - 1n);
    await expect(openSafetensors(endless)).rejects.toThrow("its header claims 18446744073709551615 bytes");
    // Sparse: 101 MB that take no place.
    const huge = await file("huge", "{}", new Uint8Array(0), 100_500_000n);
    await truncate(huge, 101_000_000);
    const before = process.memoryUsage().arrayBuffers;
    await expect(openSafetensors(huge)).rejects.toThrow("more than the 100000000 that are allowed");
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1e6);
  });
});

describe("what is unusual and right is read", () => {
  it("empty tensors, scalars, a tensor that is called __proto__, an empty file of tensors", async () => {
    const header = `{"s":${tensor("[]", "[0,4]")},"e":${tensor("[0,7]", "[4,4]")},"__proto__":${tensor("[3]", "[4,16]")}}`;
    const source = await openSafetensors(await file("unusual", header));
    expect([...source.tensors.keys()]).toEqual(["s", "e", "__proto__"]);
    expect(await source.readFloats("__proto__")).toEqual(new Float32Array(3));
    let pieces = 0;
    for await (const _ of source.floatPieces("e")) pieces++;
    expect(pieces).toBe(0);
    await source.close();
    const none = await openSafetensors(await file("none", "{}", new Uint8Array(0)));
    expect(none.tensors.size).toBe(0);
    await none.close();
  });

  it("in pieces as at once, in every precision, also while another tensor is being read", async () => {
    // Three pieces: two of a MiB and a rest.
    const count = 2 ** 19 + 321;
    for (const [type, bytes] of [
      ["F32", 4],
      ["F16", 2],
      ["BF16", 2],
      ["F64", 8],
    ] as const) {
      const data = new Uint8Array(2 * count * bytes);
      for (let at = 0; at < data.length; at++) data[at] = (at * 2_654_435_761) >>> 25;
      const end = count * bytes;
      const header = `{"a":${tensor(`[${count}]`, `[0,${end}]`, `"${type}"`)},"b":${tensor(`[${count}]`, `[${end},${2 * end}]`, `"${type}"`)}}`;
      const source = await openSafetensors(await file(`pieces ${type}`, header, data));
      const others = source.floatPieces("b")[Symbol.asyncIterator]();
      const [a, b]: [Buffer[], Buffer[]] = [[], []];
      for await (const piece of source.floatPieces("a")) {
        const other = await others.next();
        a.push(Buffer.from(piece));
        b.push(Buffer.from(other.value as Uint8Array));
      }
      expect((await others.next()).done).toBe(true);
      for (const [name, pieces] of [
        ["a", a],
        ["b", b],
      ] as const) {
        const whole = await source.readFloats(name);
        expect(
          Buffer.concat(pieces).equals(Buffer.from(whole.buffer, whole.byteOffset, whole.byteLength)),
        ).toBe(true);
      }
      await source.close();
    }
  });
});

describe("a tensor that is read in pieces", () => {
  it("keeps its piece until the next is asked for, also where another reader stops early", async () => {
    const count = 2 ** 20;
    const data = Buffer.concat([Buffer.alloc(4 * count, 1), Buffer.alloc(4 * count, 2)]);
    const end = count * 4;
    const path = await file(
      "kept",
      `{"a":${tensor(`[${count}]`, `[0,${end}]`)},"b":${tensor(`[${count}]`, `[${end},${2 * end}]`)}}`,
      data,
    );
    const source = await openSafetensors(path);
    for await (const _ of source.floatPieces("a")) break;
    const first = (await source.floatPieces("b")[Symbol.asyncIterator]().next()).value as Uint8Array;
    for await (const piece of source.floatPieces("a")) expect(piece.every((byte) => byte === 1)).toBe(true);
    expect(first.byteLength).toBe(2 ** 20);
    expect(first.every((byte) => byte === 2)).toBe(true);
    await source.close();
  });

  it("that was cut off after it was opened is told when that piece is asked for", async () => {
    const count = 2 ** 20;
    const path = await file(
      "cut",
      `{"a":${tensor(`[${count}]`, `[0,${4 * count}]`)}}`,
      new Uint8Array(4 * count),
    );
    const source = await openSafetensors(path);
    await truncate(path, 3 * 2 ** 20);
    let pieces = 0;
    const read = async (): Promise<void> => {
      for await (const _ of source.floatPieces("a")) {
        pieces++;
        await setTimeout(5);
      }
    };
    await expect(read()).rejects.toThrow(/it ends in the middle of its data/);
    expect(pieces).toBe(2);
    await source.close();
  });
});

describe("any damage", () => {
  it("is either told with the file's name, or leaves a layout that holds", async () => {
    const header = `{"__metadata__":{"format":"pt"},"a.weight":${tensor("[2,2]", "[0,16]")},"b":${tensor("[]", "[16,20]")},"c":${tensor("[3]", "[20,26]", '"BF16"')}}`;
    const text = Buffer.from(header);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.byteLength));
    const whole = Buffer.concat([length, text, new Uint8Array(26)]);
    const random = stream(20_240_611);
    const path = join(folder, "damaged");
    let refused = 0;
    for (let round = 0; round < 600; round++) {
      const draws = random.fork(round);
      const bytes = Buffer.from(whole);
      const flips = 1 + Math.floor(draws.fork("count").uniform() * 3);
      for (let flip = 0; flip < flips; flip++) {
        const draw = draws.fork(flip);
        const where = Math.floor(draw.fork("where").uniform() * (8 + text.byteLength));
        bytes[where] = Math.floor(draw.fork("what").uniform() * 256);
      }
      const cut = draws.fork("cut").uniform();
      await writeFile(path, cut < 0.3 ? bytes.subarray(0, Math.floor((cut / 0.3) * bytes.length)) : bytes);
      try {
        const source = await openSafetensors(path);
        let end = 0;
        for (const each of [...source.tensors.values()].sort(
          (one, other) => one.begin - other.begin || one.end - other.end,
        )) {
          expect(each.begin).toBe(end);
          expect(elementCount(each.shape)).toBeLessThanOrEqual(26);
          end = each.end;
        }
        await source.close();
      } catch (error) {
        refused++;
        expect(error, String(error)).toBeInstanceOf(EspalierError);
        expect(error).toMatchObject({ code: "ESPALIER_SAFETENSORS_INVALID", file: path });
      }
    }
    expect(refused).toBeGreaterThan(300);
    expect(refused).toBeLessThan(600);
  });
});

describe("shards", () => {
  const one = `{"a":${tensor("[4]", "[0,16]")}}`;
  const index = async (name: string, text: string): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, text);
    return path;
  };

  it("that share a name, or hold one that the index lacks, are refused", async () => {
    await file("one", one);
    await file("two", `{"b":${tensor("[2]", "[0,8]")},"a":${tensor("[2]", "[8,16]")}}`);
    await expect(
      openShardedSafetensors(await index("twice.json", '{"weight_map":{"a":"one","b":"two"}}')),
    ).rejects.toThrow('tensor "a" is in two, too, though the index names another shard');
    await expect(
      openShardedSafetensors(await index("lacks.json", '{"weight_map":{"b":"two"}}')),
    ).rejects.toThrow('tensor "a" is in two, but the index does not name it');
    await expect(
      openShardedSafetensors(await index("keys.json", '{"weight_map":{"a":"one","a":"two"}}')),
    ).rejects.toThrow('"a" stands in it twice');
  });
});
