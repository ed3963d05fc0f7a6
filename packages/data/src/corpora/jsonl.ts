import { EspalierError } from "@espalier/core";
import { hashOf } from "../cache.js";
import { textField } from "./record-field.js";
import type { SizedCorpus } from "./sized-corpus.js";
import { bytesOf, findFiles, hashFiles, readLines } from "./text-files.js";

/** JSON Lines as a corpus: a document is a line's field. */
export interface JsonlCorpusOptions {
  /** Files, folders (their `.jsonl`, `.ndjson` files) and glob patterns; `.gz` is unpacked. */
  readonly files: string | readonly string[];
  /** The field that holds the text; a dot leads into a nested object. */
  readonly field: string;
}

const extensions = [".jsonl", ".ndjson"];

/**
 * The corpus `jsonl`. Lines without text are skipped.
 *
 * @param baseDirectory the folder that relative paths start from
 */
export function jsonlCorpus(options: JsonlCorpusOptions, baseDirectory: string): SizedCorpus {
  const files = typeof options.files === "string" ? [options.files] : options.files;
  const find = () => findFiles({ files, baseDirectory, extensions, corpus: "jsonl" });
  return {
    async fingerprint() {
      const content = await hashFiles(await find(), baseDirectory);
      return hashOf({ corpus: "jsonl", field: options.field, content });
    },
    async *documents() {
      for (const path of await find()) {
        let number = 0;
        for await (const line of readLines(path)) {
          number++;
          if (line.trim() !== "")
            yield textField(parseLine(line, path, number), options.field, `line ${number}`, path);
        }
      }
    },
    async totalBytes() {
      return bytesOf(await find());
    },
  };
}

function parseLine(line: string, path: string, number: number): object {
  let value: unknown;
  let problem = "not an object";
  try {
    value = JSON.parse(line);
  } catch (error) {
    problem = `not JSON: ${error instanceof Error ? error.message : String(error)}`;
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new EspalierError("ESPALIER_CORPUS_MALFORMED", `line ${number} of ${path} is ${problem}`, {
    file: path,
  });
}
