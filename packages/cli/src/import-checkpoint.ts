import { readdir } from "node:fs/promises";
import {
  matchTensors,
  type OpenCheckpoint,
  refuseUntied,
  type StoredTensor,
  type TensorMatch,
  type TensorToWrite,
  writeCheckpointFolder,
} from "@espalier/checkpoints";
import { formatShape, type ModelConfig } from "@espalier/core";
import type { TextTokenizer } from "@espalier/data";
import { openDescribed } from "./checkpoint-description.js";
import { tokenFilesOf, tokenIdsOf, tokenizerFor } from "./token-files.js";

/** How a folder is imported. */
export interface ImportRequest {
  readonly out: string;
  /** Tensors that the user can do without: those whose name begins like this. */
  readonly leaveOut: readonly string[];
}

/** What was imported. */
export interface ImportedCheckpoint {
  readonly family: string;
  readonly shape: string;
  readonly vocabSize: number;
  readonly maxPositions: number;
  readonly hasTokenizer: boolean;
  /** What is not as it was, a line each. */
  readonly differences: readonly string[];
}

/**
 * Checks a Hugging Face folder and writes it as a checkpoint of ours: today's names, float32, one file. Everything is
 * checked before anything is written. Copies bytes; needs no engine.
 *
 * @throws UsageError saying everything that differs from a model that can be computed
 */
export async function importCheckpoint(path: string, request: ImportRequest): Promise<ImportedCheckpoint> {
  const { checkpoint, family, config } = await openDescribed(path);
  try {
    const match = matchTensors(checkpoint.weights, {
      parameters: family.parameters(config),
      foreign: family.foreignTensors ?? [],
      leaveOut: request.leaveOut,
    });
    await refuseUntied(checkpoint.weights, match);
    const tokenizer = await tokenizerFor(checkpoint, config);
    const tokenFiles = await tokenFilesOf(checkpoint);
    const differences = [
      ...describeTensors(match, checkpoint),
      ...(await describeTokenizer(tokenizer, config, checkpoint)),
    ];
    const model = family.parameters(config).map(({ name, shape }): TensorToWrite => {
      const stored = match.parameters.get(name)!;
      return { name, type: "F32", shape, data: () => checkpoint.weights.floatPieces(stored.name) };
    });
    await writeCheckpointFolder(request.out, {
      model,
      optimizer: null,
      state: null,
      config: { ...family.toHuggingFace(config), ...tokenIdsOf(checkpoint, config.vocabSize) },
      ...(tokenizer === null ? {} : { tokenizerJson: tokenizer.json }),
      companions: tokenFiles,
    });
    return {
      family: family.name,
      shape: formatShape(config),
      vocabSize: config.vocabSize,
      maxPositions: config.maxPositions,
      hasTokenizer: tokenizer !== null,
      differences,
    };
  } finally {
    await checkpoint.close();
  }
}

function describeTensors(match: TensorMatch, checkpoint: OpenCheckpoint): string[] {
  const lines: string[] = [];
  const byKind = new Map<string, StoredTensor[]>();
  for (const { tensor, what } of match.leftOut) byKind.set(what, [...(byKind.get(what) ?? []), tensor]);
  for (const [what, tensors] of byKind)
    lines.push(
      `left out, ${what}: ${tensors
        .slice(0, 4)
        .map(({ name, shape }) => `${name} [${shape.join(",")}]`)
        .join(", ")}${tensors.length > 4 ? ` and ${tensors.length - 4} more` : ""}`,
    );
  for (const { tensor, what, tiedTo } of match.ties)
    lines.push(`left out, ${what}, the same as ${tiedTo}: ${tensor.name}`);
  const converted = new Map<string, number>();
  let renamed = 0;
  for (const [name, tensor] of match.parameters) {
    if (tensor.type !== "F32") converted.set(tensor.type, (converted.get(tensor.type) ?? 0) + 1);
    if (tensor.name !== name) renamed++;
  }
  for (const [type, count] of converted) lines.push(`converted from ${type} to F32: ${count} tensors`);
  if (renamed > 0) lines.push(`renamed as Hugging Face saves them today: ${renamed} tensors`);
  if (checkpoint.optimizer !== null) lines.push("left out: the optimizer's moments");
  return lines;
}

async function describeTokenizer(
  tokenizer: TextTokenizer | null,
  config: ModelConfig,
  checkpoint: OpenCheckpoint,
): Promise<string[]> {
  if (tokenizer === null) {
    const names = await readdir(checkpoint.folder);
    const slow = names.find((name) => ["vocab.txt", "vocab.json", "spiece.model"].includes(name));
    return [
      slow === undefined
        ? "there is no tokenizer.json: text can be neither read nor written with it"
        : `there is no tokenizer.json, and ${slow} is not read; transformers makes one: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`,
    ];
  }
  const { vocabSize } = tokenizer.info;
  return vocabSize === config.vocabSize
    ? []
    : [
        `tokenizer.json has ${vocabSize} tokens, the model ${config.vocabSize}: ${config.vocabSize - vocabSize} rows are never read`,
      ];
}
