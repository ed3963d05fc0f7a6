import { createHash } from "node:crypto";
import { type Corpus, type Split, UsageError } from "@espalier/core";

/** Share of the documents that is held out where nothing else is said. */
export const defaultValidationShare = 0.05;

/** A document, and the side that it is on. */
export interface SplitDocument {
  readonly split: Split;
  readonly text: string;
}

/**
 * How a corpus is divided. `hash`: each document by the hash of its text, so that a document stays on its side when
 * others come or go, and copies never stand on both. `tail`: the last part of every document is held out; for corpora of
 * so few documents (one book) that hashing would leave a side empty.
 */
export type SplitRule = "hash" | "tail";

/** Whether a document's hash puts it on the validation side. */
export function splitByHash(text: string, validationShare: number): Split {
  const digest = createHash("sha256").update(text).digest();
  return digest.readUIntBE(0, 6) / 2 ** 48 < validationShare ? "validation" : "train";
}

/**
 * Where the tail that is held out starts: at a gap between words, the last one before the share.
 *
 * @returns an index into the text
 */
export function tailStart(text: string, validationShare: number): number {
  const wanted = Math.floor(text.length * (1 - validationShare));
  for (let at = wanted; at > wanted / 2; at--) if (/\s/.test(text[at - 1]!)) return at;
  const code = text.charCodeAt(wanted);
  // The second half of a surrogate pair stays with the first.
  return code >= 0xdc00 && code <= 0xdfff ? wanted + 1 : wanted;
}

/**
 * Finds the rule for a corpus: reads until both sides have a document.
 *
 * @throws UsageError ESPALIER_CORPUS_EMPTY if there is no text
 */
export async function chooseSplitRule(corpus: Corpus, validationShare: number): Promise<SplitRule> {
  let train = false;
  let validation = validationShare === 0;
  let any = false;
  for await (const text of corpus.documents()) {
    if (text.trim() === "") continue;
    any = true;
    if (splitByHash(text, validationShare) === "train") train = true;
    else validation = true;
    if (train && validation) return "hash";
  }
  if (!any)
    throw new UsageError(
      "ESPALIER_CORPUS_EMPTY",
      "the corpus holds no text: not one document that is not empty",
      {
        key: "data.corpus",
      },
    );
  return "tail";
}

/** The documents of a corpus with their sides, in the corpus's order; empty ones are left out. */
export async function* splitDocuments(
  corpus: Corpus,
  validationShare: number,
  rule: SplitRule,
): AsyncGenerator<SplitDocument> {
  for await (const text of corpus.documents()) {
    if (text.trim() === "") continue;
    if (rule === "hash") {
      yield { split: splitByHash(text, validationShare), text };
      continue;
    }
    const start = tailStart(text, validationShare);
    if (start > 0) yield { split: "train", text: text.slice(0, start) };
    if (start < text.length) yield { split: "validation", text: text.slice(start) };
  }
}

/**
 * Refuses a share that leaves nothing to train on.
 *
 * @throws UsageError ESPALIER_DATA_SHARE_INVALID
 */
export function checkValidationShare(share: number): void {
  if (!(share >= 0 && share < 1))
    throw new UsageError(
      "ESPALIER_DATA_SHARE_INVALID",
      `data.validationShare must be at least 0 and less than 1, but is ${share}`,
      { key: "data.validationShare" },
    );
}
