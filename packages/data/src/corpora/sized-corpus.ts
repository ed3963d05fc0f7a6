import type { Corpus } from "@espalier/core";

/** A corpus that knows its size, so that progress has an end. */
export interface SizedCorpus extends Corpus {
  /** UTF-8 bytes of all documents, roughly; null if that is not known before reading. */
  totalBytes(): Promise<number | null>;
}

/** The size of a corpus if it can tell. */
export async function totalBytesOf(corpus: Corpus): Promise<number | null> {
  return isSized(corpus) ? corpus.totalBytes() : null;
}

function isSized(corpus: Corpus): corpus is SizedCorpus {
  return "totalBytes" in corpus && typeof corpus.totalBytes === "function";
}
