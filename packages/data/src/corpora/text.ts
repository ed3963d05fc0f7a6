import { hashOf } from "../cache.js";
import type { SizedCorpus } from "./sized-corpus.js";
import { bytesOf, findFiles, hashFiles, readLines, readText } from "./text-files.js";

/** Text files as a corpus. */
export interface TextCorpusOptions {
  /** Files, folders (their `.txt`, `.text`, `.md` files) and glob patterns; `.gz` is unpacked. */
  readonly files: string | readonly string[];
  /** `file`: a document is a whole file. `blank-line`: it is a paragraph, ended by a line without text. */
  readonly separator: "file" | "blank-line";
}

const extensions = [".txt", ".text", ".md"];

/**
 * The corpus `text`.
 *
 * @param baseDirectory the folder that relative paths start from
 */
export function textCorpus(options: TextCorpusOptions, baseDirectory: string): SizedCorpus {
  const files = typeof options.files === "string" ? [options.files] : options.files;
  const find = () => findFiles({ files, baseDirectory, extensions, corpus: "text" });
  return {
    async fingerprint() {
      const content = await hashFiles(await find(), baseDirectory);
      return hashOf({ corpus: "text", separator: options.separator, content });
    },
    async *documents() {
      for (const path of await find()) {
        if (options.separator === "file") yield await readText(path);
        else yield* paragraphs(readLines(path));
      }
    },
    async totalBytes() {
      return bytesOf(await find());
    },
  };
}

async function* paragraphs(lines: AsyncIterable<string>): AsyncGenerator<string> {
  let paragraph: string[] = [];
  for await (const line of lines) {
    if (line.trim() !== "") {
      paragraph.push(line);
      continue;
    }
    if (paragraph.length > 0) yield paragraph.join("\n");
    paragraph = [];
  }
  if (paragraph.length > 0) yield paragraph.join("\n");
}
