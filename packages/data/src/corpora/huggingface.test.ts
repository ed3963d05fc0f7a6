import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { type Corpus, EspalierError, UsageError } from "@espalier/core";
import { parquetWriteBuffer } from "hyparquet-writer";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ParquetFile, placeOf, selectFiles } from "./hub-files.js";
import { huggingFaceCorpus } from "./huggingface.js";

/** What the hub answers to a request, as far as it is seen. */
interface Seen {
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

type Repository = { readonly [revision: string]: { readonly [path: string]: Buffer } };

/** A hub on this machine: the tree API (in pages), and files behind a redirect that answers to ranges. */
class LocalHub {
  readonly seen: Seen[] = [];
  bytesServed = 0;
  /** Answers the next requests with this status first. */
  failures: number[] = [];
  private readonly server: Server;

  constructor(private readonly repositories: { readonly [name: string]: Repository }) {
    this.server = createServer((request, response) => {
      const url = new URL(request.url ?? "/", this.endpoint);
      this.seen.push({
        path: url.pathname,
        range: request.headers.range,
        authorization: request.headers.authorization,
      });
      const failure = this.failures.shift();
      if (failure !== undefined) return this.send(response, failure, "unavailable");
      const tree = /^\/api\/datasets\/(.+)\/tree\/([^/]+)$/.exec(url.pathname);
      if (tree) return this.tree(response, tree[1]!, decodeURIComponent(tree[2]!), url);
      const file = /^\/(datasets|cdn)\/(.+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
      const content =
        file === null
          ? undefined
          : this.repositories[file[2]!]?.[decodeURIComponent(file[3]!)]?.[decodeURIComponent(file[4]!)];
      if (file === null || content === undefined) return this.send(response, 404, "not found");
      if (file[1] === "datasets") {
        response.setHeader("Location", url.pathname.replace("/datasets/", "/cdn/"));
        return this.send(response, 302, "");
      }
      this.range(response, content, request.headers.range);
    });
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  stop(): Promise<void> {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(() => resolve()));
  }

  private tree(response: ServerResponse, name: string, revision: string, url: URL): void {
    const files = this.repositories[name]?.[revision];
    if (files === undefined) {
      this.send(response, 404, JSON.stringify({ error: "Repository not found" }));
      return;
    }
    const entries = Object.entries(files).map(([path, content]) => ({
      type: "file",
      path,
      oid: `git-${content.length}`,
      size: content.length,
      lfs: { oid: `lfs-${content.length}`, size: content.length, pointerSize: 130 },
    }));
    const page = Number(url.searchParams.get("cursor") ?? 0);
    const pageSize = 2;
    if ((page + 1) * pageSize < entries.length) {
      url.searchParams.set("cursor", String(page + 1));
      response.setHeader("Link", `<${url.href}>; rel="next"`);
    }
    this.send(response, 200, JSON.stringify(entries.slice(page * pageSize, (page + 1) * pageSize)));
  }

  private range(response: ServerResponse, content: Buffer, range: string | undefined): void {
    const match = /^bytes=(\d+)-(\d*)$/.exec(range ?? "");
    const [from, to] = match
      ? [Number(match[1]), match[2] === "" ? content.length - 1 : Number(match[2])]
      : [0, content.length - 1];
    const part = content.subarray(from, to + 1);
    this.bytesServed += part.length;
    if (match)
      response.setHeader("Content-Range", `bytes ${from}-${from + part.length - 1}/${content.length}`);
    response.writeHead(match ? 206 : 200, { "Content-Length": part.length });
    response.end(part);
  }

  private send(response: ServerResponse, status: number, body: string): void {
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(body);
  }
}

/** A Parquet file with a column of texts, a nested one, and one that nobody asks for. */
function parquet(
  texts: readonly (string | null)[],
  rowGroupSize = 4,
  codec: "SNAPPY" | "GZIP" = "SNAPPY",
): Buffer {
  return Buffer.from(
    parquetWriteBuffer({
      columnData: [
        { name: "id", data: texts.map((_, index) => index), type: "INT32" },
        { name: "ballast", data: texts.map((_, index) => noise(index)), type: "STRING" },
        { name: "text", data: [...texts], type: "STRING" },
        { name: "translation", data: texts.map((text) => ({ en: `${text} in English` })), type: "JSON" },
      ],
      rowGroupSize,
      codec,
      ...(codec === "GZIP" ? { compressors: { GZIP: (input: Uint8Array) => gzipSync(input) } } : {}),
    }),
  );
}

/** Text that does not compress. */
function noise(seed: number): string {
  let state = seed + 1;
  return Array.from({ length: 60_000 }, () => {
    state = Math.imul(state, 1664525) + 1013904223;
    return String.fromCharCode(33 + ((state >>> 16) % 90));
  }).join("");
}

const texts = (from: number, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `Text number ${from + index}, with an é.`);

const repositories = {
  "someone/books": {
    main: {
      "README.md": Buffer.from("# Books"),
      "data/train-00000-of-00002.parquet": parquet(texts(0, 10)),
      "data/train-00001-of-00002.parquet": parquet([...texts(10, 5), null], 4, "GZIP"),
      "data/validation-00000-of-00001.parquet": parquet(texts(100, 2)),
    },
    "v1.0": { "data/train-00000-of-00001.parquet": parquet(texts(50, 1)) },
  },
  "someone/two": {
    main: {
      "en/train-00000-of-00001.parquet": parquet(["english"]),
      "de/train-00000-of-00001.parquet": parquet(["deutsch"]),
    },
  },
  "someone/csv": {
    main: { "train.csv": Buffer.from("a,b") },
    "refs/convert/parquet": { "default/train/0000.parquet": parquet(["converted"]) },
  },
  "someone/images": { main: { "a.png": Buffer.from("png") }, "refs/convert/parquet": {} },
  "someone/broken": {
    main: { "train.parquet": Buffer.from("PAR1 this is not a table, and not short PAR1") },
  },
};

let hub: LocalHub;
beforeEach(async () => {
  hub = await new LocalHub(repositories).start();
});
afterEach(() => hub.stop());

const corpus = (dataset: string, options: object = {}, environment: NodeJS.ProcessEnv = {}): Corpus =>
  huggingFaceCorpus(
    { dataset, split: "train", field: "text", endpoint: hub.endpoint, ...options },
    environment,
  );

async function documents(of: Corpus): Promise<string[]> {
  const found: string[] = [];
  for await (const text of of.documents()) found.push(text);
  return found;
}

async function rejection(promise: Promise<unknown>): Promise<EspalierError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof EspalierError)) throw new Error(`expected an EspalierError, not ${String(error)}`);
  return error;
}

describe("the corpus huggingface", () => {
  it("reads a split from all of its Parquet files, in order, without rows that hold no text", async () => {
    expect(await documents(corpus("someone/books"))).toEqual(texts(0, 15));
    expect(await documents(corpus("someone/books", { split: "validation" }))).toEqual(texts(100, 2));
    expect(await documents(corpus("someone/books", { limit: 11 }))).toEqual(texts(0, 11));
  });

  it("reads by ranges, only the column and the row groups that it needs", async () => {
    const whole = parquet(texts(0, 10)).length;
    const iterator = corpus("someone/books").documents()[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toBe(texts(0, 1)[0]);
    const files = hub.seen.filter(({ path }) => path.startsWith("/cdn/"));
    expect(files.length).toBeGreaterThan(0);
    expect(files.every(({ range }) => range !== undefined)).toBe(true);
    // The column `ballast` is nearly all of the file.
    const firstGroup = hub.bytesServed;
    for (let row = 1; row < 4; row++) await iterator.next();
    expect(hub.bytesServed).toBe(firstGroup);
    await iterator.next();
    expect(hub.bytesServed).toBeGreaterThan(firstGroup);
    await iterator.return?.();
    expect(hub.bytesServed).toBeLessThan(0.9 * whole + 512 * 1024);
    expect(hub.seen.some(({ path }) => path.includes("00001-of-00002"))).toBe(false);
  });

  it("takes a revision, a configuration, the hub's conversion, a nested field", async () => {
    expect(await documents(corpus("someone/books", { revision: "v1.0" }))).toEqual(texts(50, 1));
    expect(await documents(corpus("someone/two", { config: "de" }))).toEqual(["deutsch"]);
    expect(await documents(corpus("someone/csv"))).toEqual(["converted"]);
    expect(await documents(corpus("someone/two", { config: "en", field: "translation.en" }))).toEqual([
      "english in English",
    ]);
  });

  it("takes endpoint and token from the environment", async () => {
    const options = { endpoint: undefined };
    const environment = { HF_ENDPOINT: `${hub.endpoint}/`, HF_TOKEN: "hf_secret" };
    expect(await documents(corpus("someone/csv", options, environment))).toEqual(["converted"]);
    expect(
      hub.seen
        .filter(({ path }) => path.startsWith("/api/"))
        .every(({ authorization }) => authorization === "Bearer hf_secret"),
    ).toBe(true);
  });

  it("has a fingerprint of its files, without reading them", async () => {
    const fingerprint = await corpus("someone/books").fingerprint();
    expect(hub.bytesServed).toBe(0);
    expect(await corpus("someone/books").fingerprint()).toBe(fingerprint);
    for (const options of [{ split: "validation" }, { revision: "v1.0" }, { field: "ballast" }, { limit: 3 }])
      expect(await corpus("someone/books", options).fingerprint()).not.toBe(fingerprint);
  });

  it("tries again when the hub is overloaded", async () => {
    hub.failures = [503, 429];
    expect(await documents(corpus("someone/csv"))).toEqual(["converted"]);
  });

  it("names the configurations, splits and columns that there are", async () => {
    const configs = await rejection(documents(corpus("someone/two")));
    expect([configs.key, configs.message]).toEqual(["data.corpus.config", expect.stringContaining("de, en")]);
    expect((await rejection(documents(corpus("someone/two", { config: "ed" })))).message).toContain(
      "One of: de, en",
    );
    const split = await rejection(documents(corpus("someone/books", { split: "valdation" })));
    expect([split.key, split.message]).toEqual([
      "data.corpus.split",
      expect.stringContaining('did you mean "validation"'),
    ]);
    const field = await rejection(documents(corpus("someone/books", { field: "txt" })));
    expect([field.key, field.message]).toEqual([
      "data.corpus.field",
      expect.stringContaining('did you mean "text"'),
    ]);
    expect((await rejection(documents(corpus("someone/books", { field: "id" })))).message).toContain(
      "a number, not text",
    );
  });

  it("says what is not there", async () => {
    const unknown = await rejection(corpus("someone/nothing").fingerprint());
    expect(unknown).toBeInstanceOf(UsageError);
    expect([unknown.key, unknown.message]).toEqual([
      "data.corpus.dataset",
      expect.stringContaining("someone/nothing"),
    ]);
    expect((await rejection(corpus("someone/books", { revision: "v9" }).fingerprint())).message).toContain(
      '"v9"',
    );
    expect((await rejection(corpus("someone/images").fingerprint())).message).toContain("no Parquet files");
    const broken = await rejection(documents(corpus("someone/broken")));
    expect([broken.code, broken.file]).toEqual([
      "ESPALIER_CORPUS_UNREADABLE",
      expect.stringContaining("train.parquet"),
    ]);
  });

  it("says so when no hub answers", async () => {
    const closed = await new LocalHub({}).start();
    const { endpoint } = closed;
    await closed.stop();
    const error = await rejection(corpus("someone/books", { endpoint }).fingerprint());
    expect([error.code, error.exitCode]).toEqual(["ESPALIER_CORPUS_UNREACHABLE", 1]);
    expect(error.message).toContain(endpoint);
    expect(error.hint).toContain("HF_ENDPOINT");
  });
});

describe("the place that a path names", () => {
  it.each([
    ["data/train-00000-of-00004.parquet", "", "train"],
    ["train.parquet", "", "train"],
    ["wikitext-2-raw-v1/test-00000-of-00001.parquet", "wikitext-2-raw-v1", "test"],
    ["20220301.en/train/0000.parquet", "20220301.en", "train"],
    ["default/partial-train/0003.parquet", "default", "train"],
    ["plain_text/unsupervised-00000-of-00001.parquet", "plain_text", "unsupervised"],
    ["default/unsupervised/0000.parquet", "default", "unsupervised"],
    ["0000.parquet", "", "train"],
    ["en/val-00000-of-00001-abcdef.parquet", "en", "validation"],
  ])("%s", (path, config, split) => {
    expect(placeOf(path)).toEqual({ config, split });
  });

  it("prefers the default configuration", () => {
    const file = (path: string): ParquetFile => ({ path, size: 1, oid: "" });
    const files = [file("default/train/0000.parquet"), file("other/train/0000.parquet")];
    expect(selectFiles(files, "d", undefined, "train")).toEqual([files[0]]);
    expect(selectFiles([file("data/train.parquet")], "d", "default", "train")).toHaveLength(1);
  });
});
