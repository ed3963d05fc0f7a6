import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type OpenCheckpoint, readJsonObject } from "@espalier/checkpoints";
import { type JsonObject, type ModelConfig, UsageError } from "@espalier/core";
import type { TextTokenizer } from "@espalier/data";
import { readTokenizerOf } from "./read-tokenizer-of.js";

const tokenIds = ["bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id"] as const;
const ofTokenizer = ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];
const ofGeneration = "generation_config.json";

/**
 * The ids of special tokens that a checkpoint's `config.json` names. One beyond the vocabulary (transformers' default for
 * GPT-2 is 50256, whatever the vocabulary) names no token.
 */
export function tokenIdsOf({ config }: OpenCheckpoint, vocabSize: number): JsonObject {
  return Object.fromEntries(
    tokenIds.flatMap((key) => {
      const id = config[key];
      return typeof id === "number" && id < vocabSize ? [[key, id]] : [];
    }),
  );
}

/**
 * The files of a folder that say what its special tokens are and where a generated text ends, as they are there. Without
 * them `transformers` takes defaults, and generates beyond the end.
 *
 * @throws EspalierError ESPALIER_CHECKPOINT_DAMAGED for one that is no JSON object
 */
export async function tokenFilesOf({
  folder,
  tokenizerFile,
}: OpenCheckpoint): Promise<{ readonly [file: string]: JsonObject }> {
  const there = await readdir(folder);
  const wanted = tokenizerFile === null ? [ofGeneration] : [...ofTokenizer, ofGeneration];
  const files = wanted.filter((file) => there.includes(file));
  return Object.fromEntries(
    await Promise.all(files.map(async (file) => [file, await readJsonObject(join(folder, file))] as const)),
  );
}

/**
 * The checkpoint's tokenizer, or null.
 *
 * @throws UsageError ESPALIER_VOCABULARY_MISMATCH if it has tokens for which the model has no embeddings
 */
export async function tokenizerFor(
  checkpoint: OpenCheckpoint,
  config: ModelConfig,
): Promise<TextTokenizer | null> {
  const tokenizer = await readTokenizerOf(checkpoint);
  if (tokenizer === null || tokenizer.info.vocabSize <= config.vocabSize) return tokenizer;
  throw new UsageError(
    "ESPALIER_VOCABULARY_MISMATCH",
    `tokenizer.json has ${tokenizer.info.vocabSize} tokens, but the model only ${config.vocabSize} (vocab_size in config.json): it is the tokenizer of another model, or the embeddings were not resized`,
    {
      file: checkpoint.tokenizerFile!,
      key: "vocab_size",
      hint: "in transformers: model.resize_token_embeddings(len(tokenizer))",
    },
  );
}
