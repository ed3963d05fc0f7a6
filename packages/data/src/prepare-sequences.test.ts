import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Corpus } from "@espalier/core";
import { build } from "esbuild";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { sotuCorpus } from "./corpora/sotu.js";
import { textCorpus } from "./corpora/text.js";
import type { PackedSequences } from "./packed-sequences.js";
import { cutDocument, prepareSequences, type SequencePreparation } from "./prepare-sequences.js";
import { prepareTokenizer } from "./prepare-tokenizer.js";
import type { TextTokenizer } from "./text-tokenizer.js";

const corpus = sotuCorpus({ from: 1905, to: 1925 });
let shared: string;
let bpe: TextTokenizer;
let wordpiece: TextTokenizer;
let cacheDir: string;
let opened: PackedSequences[];

beforeAll(async () => {
  shared = await mkdtemp(join(tmpdir(), "espalier-sequences-"));
  bpe = await prepareTokenizer({ corpus, tokenizer: { kind: "bpe", vocabSize: 600 }, cacheDir: shared });
  wordpiece = await prepareTokenizer({
    corpus,
    tokenizer: { kind: "wordpiece", vocabSize: 600 },
    cacheDir: shared,
  });
});
afterAll(() => rm(shared, { recursive: true, force: true }));
beforeEach(async () => {
  cacheDir = await mkdtemp(join(shared, "cache-"));
  opened = [];
});
afterEach(() => {
  for (const data of opened) data.close();
});

async function prepare(options: Partial<SequencePreparation> = {}): Promise<PackedSequences> {
  const data = await prepareSequences({ corpus, tokenizer: bpe, sequenceLength: 64, cacheDir, ...options });
  opened.push(data);
  return data;
}

/** A corpus that counts how often it is read. */
function counted(inner: Corpus): Corpus & { readonly reads: () => number } {
  let reads = 0;
  return {
    reads: () => reads,
    fingerprint: () => inner.fingerprint(),
    documents() {
      reads++;
      return inner.documents();
    },
  };
}

const all = (data: PackedSequences): string =>
  bpe.decode(data.validationBatch(0, data.count("validation")), { specialTokens: true });

describe("prepareSequences", () => {
  it("packs held-out documents one after the other, with the end of text after each", async () => {
    const data = await prepare({ validationShare: 0.2 });
    const text = all(data);
    const packed = text.split("<|endoftext|>");
    const documents: string[] = [];
    for await (const document of corpus.documents()) documents.push(document);
    expect(packed.length).toBeGreaterThan(3);
    for (const document of packed.slice(0, -1)) expect(documents).toContain(document);
    expect(documents.some((document) => document.startsWith(packed[packed.length - 1]!))).toBe(true);
    expect(data.tokenCount("train")).toBeGreaterThan(data.tokenCount("validation"));
  });

  it("begins and ends sequences as BERT does", async () => {
    const data = await prepare({ tokenizer: wordpiece, sequenceLength: 32 });
    const batch = data.validationBatch(0, data.count("validation"));
    for (let row = 0; row < data.count("validation"); row++) {
      expect(batch[row * 32]).toBe(2);
      expect(batch[row * 32 + 31]).toBe(3);
    }
    expect(data.count("train")).toBe(Math.floor(data.tokenCount("train") / 30));
    // [CLS] stands nowhere else, [SEP] also between documents.
    expect(batch.filter((token) => token === 2).length).toBe(data.count("validation"));
  });

  it("reads the corpus once for all sequence lengths, and again when the tokenizer or the split is another", async () => {
    const source = counted(corpus);
    const first = await prepare({ corpus: source });
    const reads = source.reads();
    const again = await prepare({ corpus: source });
    const longer = await prepare({ corpus: source, sequenceLength: 128 });
    expect(source.reads()).toBe(reads);
    expect(again.fingerprint).toBe(first.fingerprint);
    expect(longer.fingerprint).not.toBe(first.fingerprint);
    await prepare({ corpus: source, tokenizer: wordpiece });
    expect(source.reads()).toBe(2 * reads);
    await prepare({ corpus: source, validationShare: 0.5 });
    expect(source.reads()).toBeGreaterThan(2 * reads);
  });

  it("notices a file that changed", async () => {
    const folder = join(cacheDir, "texts");
    await mkdir(folder);
    const words = (word: string): string =>
      Array.from({ length: 2000 }, (_, index) => `${word} ${index}`).join(" ");
    await writeFile(join(folder, "a.txt"), words("first"));
    const source = textCorpus({ files: "texts", separator: "file" }, cacheDir);
    const before = await prepare({ corpus: source });
    expect((await prepare({ corpus: source })).fingerprint).toBe(before.fingerprint);
    // The same length, the same name: only the content differs.
    await writeFile(join(folder, "a.txt"), words("third"));
    const changed = await prepare({ corpus: source });
    expect(changed.fingerprint).not.toBe(before.fingerprint);
    expect(all(changed)).toContain("third");
    await writeFile(join(folder, "b.txt"), words("second"));
    expect((await prepare({ corpus: source })).fingerprint).not.toBe(changed.fingerprint);
  });

  it("makes a damaged cache again", async () => {
    const first = await prepare();
    const folder = join(cacheDir, "tokens");
    const names = (await readdir(folder)).sort();
    expect(names).toHaveLength(2);
    const whole = await Promise.all(names.map((name) => readFile(join(folder, name))));
    for (const [index, name] of names.entries()) {
      const path = join(folder, name);
      const flipped = Buffer.from(whole[index]!);
      flipped[5000]! ^= 0x10;
      const damages = [
        () => truncate(path, 5000),
        () => writeFile(path, flipped),
        () => writeFile(path, ""),
        () => rm(path),
      ];
      for (const damage of damages) {
        await damage();
        const data = await prepare();
        expect(data.fingerprint).toBe(first.fingerprint);
        expect(whole[index]!.equals(await readFile(path))).toBe(true);
      }
    }
    expect((await readdir(folder)).sort()).toEqual(names);
  });

  it("leaves nothing behind when reading fails", async () => {
    const failing: Corpus = {
      fingerprint: async () => "failing",
      async *documents() {
        for (let index = 0; index < 100; index++) yield `document ${index}`;
        throw new Error("the network is gone");
      },
    };
    await expect(prepare({ corpus: failing })).rejects.toThrow("the network is gone");
    expect(await readdir(join(cacheDir, "tokens"))).toEqual([]);
  });

  it("may be run by several processes at once", async () => {
    const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
    const script = join(root, "node_modules", ".cache", `espalier-prepare-${process.pid}.mjs`);
    await build({
      stdin: {
        contents: `
          import { prepareSequences, prepareTokenizer, sotuCorpus } from "@espalier/data";
          const corpus = sotuCorpus({ from: 1905, to: 1925 });
          const cacheDir = process.argv[2];
          const tokenizer = await prepareTokenizer({ corpus, tokenizer: { kind: "bpe", vocabSize: 600 }, cacheDir });
          const data = await prepareSequences({ corpus, tokenizer, sequenceLength: 64, cacheDir });
          console.log(data.fingerprint, data.count("train"));`,
        resolveDir: dirname(fileURLToPath(import.meta.url)),
      },
      outfile: script,
      bundle: true,
      platform: "node",
      format: "esm",
      conditions: ["espalier-source"],
      external: ["tokenizers", "@huggingface/hub", "hyparquet", "tinyglobby", "cli-progress", "zod"],
      banner: {
        js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);',
      },
    });
    try {
      const run = promisify(execFile);
      const outputs = await Promise.all([1, 2, 3].map(() => run(process.execPath, [script, cacheDir])));
      const data = await prepare();
      for (const { stdout } of outputs)
        expect(stdout.trim()).toBe(`${data.fingerprint} ${data.count("train")}`);
      expect((await readdir(join(cacheDir, "tokens"))).filter((name) => !name.endsWith(".bin"))).toEqual([]);
      expect(await readdir(join(cacheDir, "tokens"))).toHaveLength(2);
    } finally {
      await rm(script, { force: true });
    }
  });

  it("tells how far it is", async () => {
    const seen: [string, number, number | null][] = [];
    await prepare({ onProgress: (stage, done, total) => seen.push([stage, done, total]) });
    expect(seen.length).toBeGreaterThan(1);
    const [stage, done, total] = seen[seen.length - 1]!;
    expect([stage, done]).toEqual(["tokenizing", total]);
    for (let at = 1; at < seen.length; at++) expect(seen[at]![1]).toBeGreaterThanOrEqual(seen[at - 1]![1]);
  });

  it("refuses what gives no sequence", async () => {
    const text = (length: number): Corpus => ({
      fingerprint: async () => `text of ${length}`,
      async *documents() {
        yield "word ".repeat(length);
      },
    });
    await expect(prepare({ sequenceLength: 1 })).rejects.toThrow("data.sequenceLength must be");
    await expect(prepare({ sequenceLength: 3, tokenizer: wordpiece })).rejects.toThrow("at least 4");
    await expect(prepare({ corpus: text(10) })).rejects.toThrow(/training split has \d+ tokens/);
    await expect(prepare({ corpus: text(150) })).rejects.toThrow(/validation split has \d+ tokens/);
    expect((await prepare({ corpus: text(150), validationShare: 0 })).count("validation")).toBe(0);
    await expect(prepare({ validationShare: 1 })).rejects.toThrow("data.validationShare");
    await expect(prepare({ corpus: text(0) })).rejects.toThrow("no text");
  });
});

describe("cutting a long document", () => {
  it("changes no token", async () => {
    const lines = Array.from(
      { length: 1200 },
      (_, index) => `line ${index}${index % 9 === 0 ? "\n\n" : ""}  and more.`,
    );
    for (const text of [lines.join("\n"), lines.join(" ").replaceAll("\n", "")]) {
      const pieces = cutDocument(text, 5000);
      expect(pieces.length).toBeGreaterThan(4);
      expect(pieces.join("")).toBe(text);
      for (const tokenizer of [bpe, wordpiece]) {
        const whole = await tokenizer.encode(text);
        const inPieces = (await tokenizer.encodeBatch(pieces)).flatMap((ids) => [...ids]);
        expect(inPieces.join() === whole.join()).toBe(true);
      }
    }
    expect(cutDocument("x".repeat(20_000), 5000)).toHaveLength(1);
  });
});
