import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type Corpus, EspalierError, type JsonObject, UsageError } from "@espalier/core";
import { bpeInitialTokens, bpeTokenizerJson, bpeWords, countBpeWords } from "./bpe.js";
import { defaultCacheDir, errorCode, hashOf, writeAtomically } from "./cache.js";
import { totalBytesOf } from "./corpora/sized-corpus.js";
import {
  checkValidationShare,
  chooseSplitRule,
  defaultValidationShare,
  splitDocuments,
} from "./document-split.js";
import { type CountedWord, learnMerges } from "./merge-training.js";
import type { OnProgress } from "./progress.js";
import { loadTokenizer, type TextTokenizer } from "./text-tokenizer.js";
import {
  countWordPieceChunks,
  joinWordPieces,
  wordPieceStart,
  wordPieceTokenizerJson,
  wordPieceWords,
} from "./wordpiece.js";

/** Changes whenever the same text would give another tokenizer. */
const trainerVersion = 1;

/** A tokenizer that is trained on the corpus. */
export interface TrainedTokenizerOptions {
  /** `bpe`: byte-level, as GPT-2's. `wordpiece`: as BERT's. */
  readonly kind: "bpe" | "wordpiece";
  /** Tokens in all, special ones included. */
  readonly vocabSize: number;
}

/** A tokenizer that exists: a Hugging Face `tokenizer.json`, or a folder that holds one. */
export interface FileTokenizerOptions {
  readonly kind: "file";
  readonly path: string;
}

/** The `data.tokenizer` section of a definition. */
export type TokenizerOptions = TrainedTokenizerOptions | FileTokenizerOptions;

/** What a tokenizer is made from. */
export interface TokenizerPreparation {
  /** The text to train on; a tokenizer from a file does without. */
  readonly corpus: Corpus;
  readonly tokenizer: TokenizerOptions;
  /** The documents that are held out are not trained on. Default {@link defaultValidationShare}. */
  readonly validationShare?: number;
  /** Default {@link defaultCacheDir}. */
  readonly cacheDir?: string;
  /** The folder that a relative `path` starts from. Default: the working folder. */
  readonly baseDirectory?: string;
  readonly onProgress?: OnProgress;
}

/**
 * Loads a tokenizer from its file, or trains one on the corpus's training documents. A trained one is kept in the cache,
 * by the hash of corpus, split, kind and size; a damaged one is trained again.
 *
 * @throws UsageError for a missing file, an empty corpus, a vocabulary that the text cannot give
 */
export async function prepareTokenizer(preparation: TokenizerPreparation): Promise<TextTokenizer> {
  const { tokenizer } = preparation;
  if (tokenizer.kind === "file")
    return tokenizerFromFile(resolve(preparation.baseDirectory ?? ".", tokenizer.path));
  checkVocabSize(tokenizer.vocabSize);

  const validationShare = preparation.validationShare ?? defaultValidationShare;
  checkValidationShare(validationShare);
  const key = hashOf({
    trainerVersion,
    corpus: await preparation.corpus.fingerprint(),
    validationShare,
    kind: tokenizer.kind,
    vocabSize: tokenizer.vocabSize,
  });
  const path = join(preparation.cacheDir ?? defaultCacheDir(), "tokenizers", `${key.slice(0, 32)}.json`);
  const cached = await readCached(path);
  if (cached !== null) return loadTokenizer(cached, path);

  const rule = await chooseSplitRule(preparation.corpus, validationShare);
  const counts = new Map<string, number>();
  const countWords = tokenizer.kind === "bpe" ? countBpeWords : countWordPieceChunks;
  const total = await totalBytesOf(preparation.corpus);
  let done = 0;
  for await (const { split, text } of splitDocuments(preparation.corpus, validationShare, rule)) {
    if (split === "train") countWords(text, counts);
    done += Buffer.byteLength(text);
    preparation.onProgress?.("counting words", done, total);
  }
  const json = `${JSON.stringify(await train(tokenizer, counts, preparation.onProgress))}\n`;
  await writeAtomically(path, JSON.stringify({ sha256: sha256(json), tokenizer: json }));
  return loadTokenizer(json, path);
}

async function train(
  options: TrainedTokenizerOptions,
  counts: ReadonlyMap<string, number>,
  onProgress: OnProgress | undefined,
): Promise<JsonObject> {
  const { kind, vocabSize } = options;
  const start: { initialTokens: readonly string[]; words: readonly CountedWord[] } =
    kind === "bpe"
      ? { initialTokens: bpeInitialTokens, words: bpeWords(counts) }
      : wordPieceStart(await wordPieceWords(counts));
  const smallest = start.initialTokens.length;
  if (vocabSize < smallest)
    throw new UsageError(
      "ESPALIER_TOKENIZER_VOCABULARY",
      `data.tokenizer.vocabSize is ${vocabSize}, but a ${kind} tokenizer of this text needs at least ${smallest} tokens: ` +
        (kind === "bpe" ? "256 bytes and the end of text" : "the special tokens and every character"),
      { key: "data.tokenizer.vocabSize" },
    );
  const learned = await learnMerges({
    ...start,
    join: kind === "bpe" ? (left, right) => left + right : joinWordPieces,
    vocabSize,
    onProgress: (tokens) => onProgress?.("training the tokenizer", tokens, vocabSize),
  });
  if (learned.tokens.length < vocabSize)
    throw new UsageError(
      "ESPALIER_TOKENIZER_VOCABULARY",
      `data.tokenizer.vocabSize is ${vocabSize}, but the training text gives at most ${learned.tokens.length} ${kind} tokens`,
      {
        key: "data.tokenizer.vocabSize",
        hint: `give at most ${learned.tokens.length} (well below it learns more), or more text`,
      },
    );
  return kind === "bpe" ? bpeTokenizerJson(learned) : wordPieceTokenizerJson(learned);
}

async function tokenizerFromFile(path: string): Promise<TextTokenizer> {
  const details = { key: "data.tokenizer.path", file: path };
  try {
    const file = (await stat(path)).isDirectory() ? join(path, "tokenizer.json") : path;
    return await loadTokenizer(await readFile(file, "utf8"), file);
  } catch (error) {
    if (error instanceof EspalierError) throw error;
    const code = errorCode(error);
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new UsageError("ESPALIER_TOKENIZER_MISSING", "there is no tokenizer.json at this path", details);
    if (code === "EACCES")
      throw new UsageError("ESPALIER_TOKENIZER_MISSING", "the tokenizer may not be read", details);
    throw error;
  }
}

function checkVocabSize(vocabSize: number): void {
  if (!Number.isSafeInteger(vocabSize) || vocabSize < 1 || vocabSize > 2 ** 24)
    throw new UsageError(
      "ESPALIER_TOKENIZER_VOCABULARY",
      `data.tokenizer.vocabSize must be a whole number from 1 to ${2 ** 24}, but is ${vocabSize}`,
      { key: "data.tokenizer.vocabSize" },
    );
}

/** The cached tokenizer, or null if there is none or it is damaged. */
async function readCached(path: string): Promise<string | null> {
  try {
    const stored: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof stored !== "object" || stored === null || !("sha256" in stored) || !("tokenizer" in stored))
      return null;
    return typeof stored.tokenizer === "string" && stored.sha256 === sha256(stored.tokenizer)
      ? stored.tokenizer
      : null;
  } catch {
    return null;
  }
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
