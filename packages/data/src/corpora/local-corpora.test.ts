import { chmod, mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { type Corpus, EspalierError, UsageError } from "@espalier/core";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { jsonlCorpus } from "./jsonl.js";
import { sotuCorpus } from "./sotu.js";
import { textCorpus } from "./text.js";
import { readLines } from "./text-files.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "espalier-corpora-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function write(files: { readonly [name: string]: string | Buffer }): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), content);
  }
}

async function documents(corpus: Corpus): Promise<string[]> {
  const found: string[] = [];
  for await (const text of corpus.documents()) found.push(text);
  return found;
}

const text = (files: string | string[], separator: "file" | "blank-line" = "file") =>
  textCorpus({ files, separator }, folder);
const jsonl = (files: string | string[], field = "text") => jsonlCorpus({ files, field }, folder);

async function rejection(promise: Promise<unknown>): Promise<EspalierError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof EspalierError)) throw new Error(`expected an EspalierError, not ${String(error)}`);
  return error;
}

describe("the corpus sotu", () => {
  it("has 233 addresses by year, quickly", async () => {
    const start = performance.now();
    const corpus = sotuCorpus();
    const addresses = await documents(corpus);
    expect(performance.now() - start).toBeLessThan(5000);
    expect(addresses).toHaveLength(233);
    expect(addresses.reduce((sum, address) => sum + Buffer.byteLength(address), 0)).toBe(10_761_413);
    expect(await corpus.totalBytes()).toBe(10_761_413);
    expect(addresses[0]).toContain("In meeting you again I feel much satisfaction");
  });

  it("may be taken by years", async () => {
    const [first, last] = [
      await documents(sotuCorpus({ to: 1791 })),
      await documents(sotuCorpus({ from: 2021 })),
    ];
    expect([first.length, last.length]).toEqual([2, 1]);
    expect(await sotuCorpus({ to: 1791 }).fingerprint()).not.toBe(
      await sotuCorpus({ to: 1792 }).fingerprint(),
    );
  });
});

describe("the corpus text", () => {
  it("takes files, folders and patterns, packed or not, in order and each once", async () => {
    await write({
      "b.txt": "b",
      "a.txt": "a",
      "texts/z.md": "z",
      "texts/deep/y.txt.gz": gzipSync("y"),
      "texts/ignored.bin": "no text",
      "notes/n2.rst": "n2",
      "notes/n1.rst": "n1",
    });
    expect(await documents(text(["b.txt", "a.txt"]))).toEqual(["b", "a"]);
    expect(await documents(text("texts"))).toEqual(["y", "z"]);
    expect(await documents(text("notes/*.rst"))).toEqual(["n1", "n2"]);
    expect(await documents(text(["a.txt", "**/*.txt", join(folder, "texts")]))).toEqual(
      ["a", "b", "y", "z"].slice(0, 4),
    );
  });

  it("reads paragraphs, with either kind of line end, also packed", async () => {
    const lines = ["\ufeffOne", "goes on", "", "  ", "Two", "", "", "Three"];
    await write({ "unix.txt": lines.join("\n"), "dos.txt.gz": gzipSync(`${lines.join("\r\n")}\r\n`) });
    const paragraphs = ["One\ngoes on", "Two", "Three"];
    expect(await documents(text("unix.txt", "blank-line"))).toEqual(paragraphs);
    expect(await documents(text("dos.txt.gz", "blank-line"))).toEqual(paragraphs);
    expect(await documents(text("unix.txt"))).toEqual([lines.join("\n").slice(1)]);
  });

  it("keeps characters whole that lie across blocks", async () => {
    const line = "é東😀".repeat(200_000);
    await write({ "wide.txt": `${line}\n${line}` });
    const lines: string[] = [];
    for await (const read of readLines(join(folder, "wide.txt"))) lines.push(read);
    expect(lines.length === 2 && lines.every((read) => read === line)).toBe(true);
  });

  it("has a fingerprint of names and contents that moves with its folder", async () => {
    await write({ "in/a.txt": "a", "in/b.txt": "b" });
    const first = await text("in").fingerprint();
    expect(await text("in").fingerprint()).toBe(first);
    expect(await text("in", "blank-line").fingerprint()).not.toBe(first);
    await write({ "moved/in/a.txt": "a", "moved/in/b.txt": "b" });
    expect(await textCorpus({ files: "in", separator: "file" }, join(folder, "moved")).fingerprint()).toBe(
      first,
    );
    await write({ "in/b.txt": "c" });
    const changed = await text("in").fingerprint();
    expect(changed).not.toBe(first);
    await rename(join(folder, "in/b.txt"), join(folder, "in/c.txt"));
    expect(await text("in").fingerprint()).not.toBe(changed);
  });

  it("says what is missing", async () => {
    await write({ "corpus.txt": "text", "empty/other.csv": "1,2" });
    const missing = await rejection(documents(text("corpse.txt")));
    expect([missing.exitCode, missing.key, missing.file]).toEqual([
      2,
      "data.corpus.files",
      join(folder, "corpse.txt"),
    ]);
    expect(missing.hint).toContain('did you mean "corpus.txt"');
    const pattern = await rejection(text("*.md").fingerprint());
    expect(pattern.message).toContain('no file matches the pattern "*.md"');
    const emptyFolder = await rejection(documents(text("empty")));
    expect(emptyFolder).toBeInstanceOf(UsageError);
    expect(emptyFolder.message).toContain(".txt, .text, .md");
    expect((await rejection(documents(text("no/such/folder/a.txt")))).code).toBe("ESPALIER_CORPUS_MISSING");
  });

  it("names a packed file that is damaged", async () => {
    const packed = gzipSync("some text that is long enough to be cut in two places");
    await write({ "cut.txt.gz": packed.subarray(0, 30), "plain.txt.gz": "not packed" });
    for (const name of ["cut.txt.gz", "plain.txt.gz"]) {
      const error = await rejection(documents(text(name)));
      expect([error.code, error.file]).toEqual(["ESPALIER_CORPUS_UNREADABLE", join(folder, name)]);
      expect((await rejection(documents(text(name, "blank-line")))).code).toBe("ESPALIER_CORPUS_UNREADABLE");
    }
  });

  it.skipIf(process.getuid?.() === 0)("names a file that may not be read", async () => {
    await write({ "secret.txt": "text" });
    await chmod(join(folder, "secret.txt"), 0);
    const error = await rejection(documents(text("secret.txt")));
    expect([error.message, error.file]).toEqual([
      expect.stringContaining("permission"),
      join(folder, "secret.txt"),
    ]);
  });
});

describe("the corpus jsonl", () => {
  it("takes a field of each line, packed or not", async () => {
    await write({
      "a.jsonl": '{"text": "one", "n": 1}\n\n{"text": "two\\nlines"}\r\n{"text": ""}',
      "b.jsonl.gz": gzipSync('{"text": "three", "body": {"en": "drei"}}\n'),
    });
    expect(await documents(jsonl("."))).toEqual(["one", "two\nlines", "", "three"]);
    expect(await documents(jsonl("b.jsonl.gz", "body.en"))).toEqual(["drei"]);
    expect(await jsonl("b.jsonl.gz", "body.en").fingerprint()).not.toBe(
      await jsonl("b.jsonl.gz").fingerprint(),
    );
  });

  it("names file and line of what it cannot read", async () => {
    await write({
      "broken.jsonl": '{"text": "one"}\n\n{"text": "two"\n{"text": "three"}',
      "list.jsonl": '["one"]',
      "field.jsonl": '{"text": "one"}\n{"txt": "two"}',
      "number.jsonl": '{"text": 7}',
    });
    const broken = await rejection(documents(jsonl("broken.jsonl")));
    expect([broken.code, broken.file]).toEqual(["ESPALIER_CORPUS_MALFORMED", join(folder, "broken.jsonl")]);
    expect(broken.message).toMatch(/line 3 of .*broken\.jsonl is not JSON/);
    expect((await rejection(documents(jsonl("list.jsonl")))).message).toMatch(/line 1 .*not an object/);
    const field = await rejection(documents(jsonl("field.jsonl")));
    expect(field.message).toMatch(/line 2.*no field "text".*did you mean "txt"/);
    expect([field.file, field.key]).toEqual([join(folder, "field.jsonl"), "data.corpus.field"]);
    expect((await rejection(documents(jsonl("number.jsonl")))).message).toContain("holds a number, not text");
  });
});
