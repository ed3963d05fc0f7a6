import { join } from "node:path";
import { type Corpus, type Split, UsageError } from "@espalier/core";
import { defaultCacheDir, hashOf } from "./cache.js";
import { totalBytesOf } from "./corpora/sized-corpus.js";
import {
  checkValidationShare,
  chooseSplitRule,
  defaultValidationShare,
  splitDocuments,
} from "./document-split.js";
import { contentLength, type PackedSequences, packSequences } from "./packed-sequences.js";
import type { OnProgress } from "./progress.js";
import type { TextTokenizer } from "./text-tokenizer.js";
import { TokenShard, TokenShardWriter } from "./token-shard.js";

/** Changes whenever the same text and tokenizer would give other shards. */
const packingVersion = 1;
/** Characters that are encoded at once; keeps memory small and all cores busy. */
const batchCharacters = 2 ** 20;
const batchPieces = 4096;
/** A longer document is encoded in pieces, cut before a line break. */
const pieceCharacters = 2 ** 18;

/** What sequences are made from. */
export interface SequencePreparation {
  readonly corpus: Corpus;
  readonly tokenizer: TextTokenizer;
  /** Tokens in a sequence, markers included. */
  readonly sequenceLength: number;
  /** Share of the documents that is held out, 0..1. Default {@link defaultValidationShare}. */
  readonly validationShare?: number;
  /** Default {@link defaultCacheDir}. */
  readonly cacheDir?: string;
  readonly onProgress?: OnProgress;
}

type Shards = { readonly [Name in Split]: TokenShard };

/**
 * Splits a corpus by document, tokenizes it and packs it. Tokens are kept in the cache, by the hash of corpus, tokenizer
 * and split; the sequence length is no part of it. What is damaged there is made again; processes that prepare the same
 * data at the same time write the same files, each its own copy, and the last to finish has its copy kept.
 *
 * @throws UsageError if the corpus is missing or empty, or gives less than one sequence on either side
 */
export async function prepareSequences(preparation: SequencePreparation): Promise<PackedSequences> {
  const { corpus, tokenizer, sequenceLength } = preparation;
  const validationShare = preparation.validationShare ?? defaultValidationShare;
  checkValidationShare(validationShare);
  checkSequenceLength(sequenceLength, tokenizer);
  const key = hashOf({
    packingVersion,
    corpus: await corpus.fingerprint(),
    tokenizer: tokenizer.fingerprint,
    documentEnd: tokenizer.markers.documentEnd,
    validationShare,
  });
  const folder = join(preparation.cacheDir ?? defaultCacheDir(), "tokens");
  const paths = {
    train: join(folder, `${key.slice(0, 32)}.train.bin`),
    validation: join(folder, `${key.slice(0, 32)}.validation.bin`),
  };
  let shards = openShards(paths, key);
  if (shards === null) {
    await writeShards(preparation, validationShare, paths, key);
    shards = openShards(paths, key);
  }
  if (shards === null)
    throw new Error(`the token shards that were just written to ${folder} do not read back as written`);
  const data = packSequences(shards, sequenceLength, tokenizer.markers);
  try {
    checkCounts(data, validationShare);
  } catch (error) {
    data.close();
    throw error;
  }
  return data;
}

function openShards(paths: { readonly [Name in Split]: string }, key: string): Shards | null {
  const train = TokenShard.open(paths.train, key);
  if (train === null) return null;
  const validation = TokenShard.open(paths.validation, key);
  if (validation === null) {
    train.close();
    return null;
  }
  return { train, validation };
}

async function writeShards(
  preparation: SequencePreparation,
  validationShare: number,
  paths: { readonly [Name in Split]: string },
  key: string,
): Promise<void> {
  const { corpus, tokenizer } = preparation;
  const total = await totalBytesOf(corpus);
  const rule = await chooseSplitRule(corpus, validationShare);
  const writers: TokenShardWriter[] = [];
  try {
    const train = await TokenShardWriter.create(paths.train, key, tokenizer.info.vocabSize);
    writers.push(train);
    const validation = await TokenShardWriter.create(paths.validation, key, tokenizer.info.vocabSize);
    writers.push(validation);
    const bySplit = { train, validation };

    let pieces: EncodedPiece[] = [];
    let characters = 0;
    let done = 0;
    const flush = async (): Promise<void> => {
      await encodePieces(pieces, tokenizer, bySplit);
      for (const piece of pieces) done += Buffer.byteLength(piece.text);
      pieces = [];
      characters = 0;
      preparation.onProgress?.("tokenizing", done, total);
    };
    for await (const { split, text } of splitDocuments(corpus, validationShare, rule)) {
      const cuts = cutDocument(text);
      for (const [index, piece] of cuts.entries()) {
        pieces.push({ split, text: piece, endsDocument: index === cuts.length - 1 });
        characters += piece.length;
        if (characters >= batchCharacters || pieces.length >= batchPieces) await flush();
      }
    }
    await flush();
    if (total !== null) preparation.onProgress?.("tokenizing", total, total);
    for (const writer of writers) await writer.finish();
  } finally {
    for (const writer of writers) await writer.discard();
  }
}

interface EncodedPiece {
  readonly split: Split;
  readonly text: string;
  readonly endsDocument: boolean;
}

async function encodePieces(
  pieces: readonly EncodedPiece[],
  tokenizer: TextTokenizer,
  writers: { readonly [Name in Split]: TokenShardWriter },
): Promise<void> {
  if (pieces.length === 0) return;
  const encoded = await tokenizer.encodeBatch(pieces.map((piece) => piece.text));
  const { documentEnd } = tokenizer.markers;
  for (const split of ["train", "validation"] as const) {
    let length = 0;
    for (const [index, piece] of pieces.entries())
      if (piece.split === split) length += encoded[index]!.length + (piece.endsDocument ? 1 : 0);
    const tokens = new Int32Array(length);
    let at = 0;
    for (const [index, piece] of pieces.entries()) {
      if (piece.split !== split) continue;
      tokens.set(encoded[index]!, at);
      at += encoded[index]!.length;
      if (piece.endsDocument && documentEnd !== null) tokens[at++] = documentEnd;
    }
    await writers[split].append(tokens.subarray(0, at));
  }
}

/**
 * Cuts a long document between a word and a line break: no pre-tokenizer of the usual kinds joins the two, so the tokens
 * stay the same. A document without line breaks is cut before a space.
 *
 * @param longest length of a piece, in UTF-16 code units
 */
export function cutDocument(text: string, longest = pieceCharacters): string[] {
  const pieces: string[] = [];
  let start = 0;
  while (text.length - start > longest) {
    const latest = start + longest;
    const cut = lastGap(text, "\n", start, latest) ?? lastGap(text, " ", start, latest);
    if (cut === null) break;
    pieces.push(text.slice(start, cut));
    start = cut;
  }
  pieces.push(text.slice(start));
  return pieces;
}

/** The last place in `(from, to]` where `gap` follows a character that is no white space. */
function lastGap(text: string, gap: string, from: number, to: number): number | null {
  for (let at = text.lastIndexOf(gap, to); at > from; at = text.lastIndexOf(gap, at - 1))
    if (/\S/.test(text[at - 1]!)) return at;
  return null;
}

function checkSequenceLength(sequenceLength: number, tokenizer: TextTokenizer): void {
  const smallest = sequenceLength - contentLength(sequenceLength, tokenizer.markers) + 2;
  if (!Number.isSafeInteger(sequenceLength) || sequenceLength < smallest)
    throw new UsageError(
      "ESPALIER_DATA_SEQUENCE_LENGTH",
      `data.sequenceLength must be a whole number of at least ${smallest}, but is ${sequenceLength}`,
      { key: "data.sequenceLength" },
    );
}

function checkCounts(data: PackedSequences, validationShare: number): void {
  const { sequenceLength } = data;
  if (data.count("train") === 0)
    throw new UsageError(
      "ESPALIER_DATA_TOO_SMALL",
      `the training split has ${data.tokenCount("train")} tokens, less than one sequence of ${sequenceLength}`,
      { key: "data.sequenceLength", hint: "more text, or a smaller data.sequenceLength" },
    );
  if (validationShare > 0 && data.count("validation") === 0)
    throw new UsageError(
      "ESPALIER_DATA_TOO_SMALL",
      `the validation split has ${data.tokenCount("validation")} tokens, less than one sequence of ${sequenceLength}`,
      {
        key: "data.validationShare",
        hint: "more text, a larger data.validationShare, or a smaller data.sequenceLength",
      },
    );
}
