import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Corpus, EspalierError, UsageError } from "@espalier/core";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { sotuCorpus } from "./corpora/sotu.js";
import { prepareTokenizer, type TokenizerOptions } from "./prepare-tokenizer.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "espalier-tokenizer-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Documents in memory, with a count of how often they were read. */
function documents(texts: readonly string[]): Corpus & { readonly reads: () => number } {
  let reads = 0;
  return {
    reads: () => reads,
    fingerprint: async () => texts.join("\n"),
    async *documents() {
      reads++;
      yield* texts;
    },
  };
}

const early = sotuCorpus({ from: 1790, to: 1795 });
const prepare = (corpus: Corpus, tokenizer: TokenizerOptions) =>
  prepareTokenizer({ corpus, tokenizer, cacheDir: join(folder, "cache"), baseDirectory: folder });

async function rejection(promise: Promise<unknown>): Promise<EspalierError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof EspalierError)) throw new Error(`expected an EspalierError, not ${String(error)}`);
  return error;
}

describe("a trained tokenizer", () => {
  it("is trained once, and again after its cache was damaged or its text changed", async () => {
    const corpus = documents(["one two three two one", "three four five", "six seven"]);
    const options = { kind: "bpe", vocabSize: 262 } as const;
    const first = await prepare(corpus, options);
    const reads = corpus.reads();
    expect((await prepare(corpus, options)).json).toBe(first.json);
    expect(corpus.reads()).toBe(reads);

    const [name] = await readdir(join(folder, "cache", "tokenizers"));
    const file = join(folder, "cache", "tokenizers", name!);
    const whole = await readFile(file, "utf8");
    for (const damaged of [whole.slice(0, -100), whole.replace("ByteLevel", "ByteLevle"), "", "null"]) {
      await writeFile(file, damaged);
      expect((await prepare(corpus, options)).json).toBe(first.json);
      expect(await readFile(file, "utf8")).toBe(whole);
    }
    expect((await prepare(documents(["another text with other words"]), options)).json).not.toBe(first.json);
    expect(
      (await readdir(join(folder, "cache", "tokenizers"))).every((entry) => entry.endsWith(".json")),
    ).toBe(true);
  });

  it("learns from training documents only", async () => {
    // By its hash the second document is held out at this share.
    const texts = Array.from({ length: 40 }, (_, index) => `document${index} zzqzzq${index}`);
    const half = await prepareTokenizer({
      corpus: documents(texts),
      tokenizer: { kind: "wordpiece", vocabSize: 60 },
      validationShare: 0.5,
      cacheDir: folder,
    });
    const all = await prepareTokenizer({
      corpus: documents(texts),
      tokenizer: { kind: "wordpiece", vocabSize: 60 },
      validationShare: 0,
      cacheDir: folder,
    });
    expect(half.json).not.toBe(all.json);
  });

  it("says how large a vocabulary the text can give", async () => {
    const corpus = documents(["aaaa"]);
    const error = await rejection(prepare(corpus, { kind: "bpe", vocabSize: 4096 }));
    expect(error).toBeInstanceOf(UsageError);
    expect(error.key).toBe("data.tokenizer.vocabSize");
    const largest = Number(/at most (\d+)/.exec(error.message)?.[1]);
    expect((await prepare(corpus, { kind: "bpe", vocabSize: largest })).info.vocabSize).toBe(largest);
    await expect(prepare(corpus, { kind: "bpe", vocabSize: largest + 1 })).rejects.toThrow(
      `at most ${largest}`,
    );
  });

  it("says how small a vocabulary may be", async () => {
    await expect(prepare(early, { kind: "bpe", vocabSize: 256 })).rejects.toThrow("at least 257");
    const error = await rejection(prepare(early, { kind: "wordpiece", vocabSize: 20 }));
    const smallest = Number(/at least (\d+)/.exec(error.message)?.[1]);
    expect((await prepare(early, { kind: "wordpiece", vocabSize: smallest })).info.vocabSize).toBe(smallest);
    await expect(prepare(early, { kind: "wordpiece", vocabSize: smallest - 1 })).rejects.toThrow(UsageError);
    await expect(prepare(early, { kind: "bpe", vocabSize: 300.5 })).rejects.toThrow("whole number");
  });

  it("refuses a corpus without text", async () => {
    for (const texts of [[], ["", "  \n"]]) {
      const error = await rejection(prepare(documents(texts), { kind: "bpe", vocabSize: 300 }));
      expect([error.code, error.key, error.exitCode]).toEqual(["ESPALIER_CORPUS_EMPTY", "data.corpus", 2]);
    }
  });

  it("names a cache folder that cannot be written", async () => {
    await writeFile(join(folder, "cache"), "a file");
    const error = await rejection(prepare(early, { kind: "bpe", vocabSize: 300 }));
    expect(error.code).toBe("ESPALIER_CACHE_UNWRITABLE");
    expect(error.file).toContain(join(folder, "cache"));
    expect(error.hint).toContain("ESPALIER_CACHE");
  });

  it("tells how far it is", async () => {
    const seen = new Map<string, [number, number | null]>();
    await prepareTokenizer({
      corpus: early,
      tokenizer: { kind: "bpe", vocabSize: 400 },
      cacheDir: folder,
      onProgress: (stage, done, total) => seen.set(stage, [done, total]),
    });
    expect(seen.get("training the tokenizer")).toEqual([400, 400]);
    const [counted, total] = seen.get("counting words")!;
    expect(counted).toBe(total);
  });
});

describe("a tokenizer from a file", () => {
  it("is read from its file or its folder, relative to the definition", async () => {
    const trained = await prepare(early, { kind: "wordpiece", vocabSize: 300 });
    await mkdir(join(folder, "model"));
    await writeFile(join(folder, "model", "tokenizer.json"), trained.json);
    for (const path of ["model", "model/tokenizer.json", join(folder, "model")]) {
      const loaded = await prepare(early, { kind: "file", path });
      expect(loaded.info).toEqual(trained.info);
      expect(loaded.fingerprint).toBe(trained.fingerprint);
    }
  });

  it("finds the special tokens of other families, and a vocabulary with gaps", async () => {
    const trained = await prepare(early, { kind: "bpe", vocabSize: 300 });
    const file = JSON.parse(trained.json) as {
      added_tokens: object[];
      truncation: object;
      model: { vocab: { [token: string]: number } };
    };
    const token = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    file.added_tokens = ["<s>", "<pad>", "</s>", "<mask>"].map((content, index) => ({
      ...token,
      content,
      id: 400 + index,
    }));
    for (const [index, content] of ["<s>", "<pad>", "</s>", "<mask>"].entries())
      file.model.vocab[content] = 400 + index;
    file.truncation = { direction: "Right", max_length: 4, strategy: "LongestFirst", stride: 0 };
    await writeFile(join(folder, "roberta.json"), JSON.stringify(file));
    const loaded = await prepare(early, { kind: "file", path: "roberta.json" });
    expect(loaded.info).toEqual({
      vocabSize: 404,
      maskToken: 403,
      padToken: 401,
      endOfText: 402,
      specialTokens: [400, 401, 402, 403],
    });
    expect(loaded.markers).toEqual({ sequenceStart: 400, sequenceEnd: 402, documentEnd: 402 });
    expect((await loaded.encode("fellow citizens of the senate")).length).toBeGreaterThan(4);
  });

  it("says what is wrong with a file", async () => {
    const missing = await rejection(prepare(early, { kind: "file", path: "nowhere/tokenizer.json" }));
    expect([missing.key, missing.file, missing.exitCode]).toEqual([
      "data.tokenizer.path",
      join(folder, "nowhere", "tokenizer.json"),
      2,
    ]);
    await expect(prepare(early, { kind: "file", path: "." })).rejects.toThrow("no tokenizer.json");
    await writeFile(join(folder, "broken.json"), '{"model": ');
    await writeFile(join(folder, "other.json"), '{"hidden_size": 768}');
    for (const path of ["broken.json", "other.json"]) {
      const error = await rejection(prepare(early, { kind: "file", path }));
      expect([error.code, error.file]).toEqual(["ESPALIER_TOKENIZER_INVALID", join(folder, path)]);
    }
  });
});
