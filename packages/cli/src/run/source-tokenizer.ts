import { resolve } from "node:path";
import { openCheckpoint } from "@espalier/checkpoints";
import { UsageError } from "@espalier/core";
import type { TextTokenizer } from "@espalier/data";
import type { Experiment } from "@espalier/experiments";
import { readTokenizer } from "../read-tokenizer.js";
import { experimentAtCheckpoint } from "./locked-source.js";

/**
 * Refuses a checkpoint whose tokens mean something else than the run's: its embeddings would belong to other words.
 *
 * @param tokenizer the run's; null where it is not trained yet
 * @throws UsageError ESPALIER_SOURCE_TOKENIZER if the source has no tokenizer and the definition names none that exists, or
 * its tokenizer is another one
 */
export async function refuseOtherTokenizer(
  experiment: Experiment,
  tokenizer: TextTokenizer | null,
): Promise<void> {
  const { start, definition, locate } = experiment;
  if (start.kind !== "checkpoint") return;
  const checkpoint = await openCheckpoint(start.path);
  await checkpoint.close();
  const { tokenizerFile } = checkpoint;
  if (tokenizerFile === null) {
    if (definition.data.tokenizer.kind === "file") return;
    throw new UsageError(
      "ESPALIER_SOURCE_TOKENIZER",
      `the source ${checkpoint.folder} has no tokenizer.json, and the text must be encoded as it was for the source; a tokenizer that is trained anew (data.tokenizer.kind: ${definition.data.tokenizer.kind}) gives other tokens`,
      {
        file: locate(["data", "tokenizer", "kind"]),
        key: "data.tokenizer",
        hint: "put the source's tokenizer.json into its folder, or name it: data.tokenizer: { kind: file, path: … }",
      },
    );
  }
  if (tokenizer === null) return;
  const expected = (await readTokenizer(tokenizerFile)).fingerprint;
  if (expected === tokenizer.fingerprint) return;
  const named = definition.data.tokenizer;
  const isFile = named.kind === "file";
  const found = isFile
    ? resolve(experiment.loaded.source.baseDirectory, named.path)
    : `a ${named.kind} tokenizer trained on its text`;
  throw new UsageError(
    "ESPALIER_SOURCE_TOKENIZER",
    `the source's embeddings would belong to other tokens: the source's tokenizer is ${tokenizerFile} (${short(expected)}), the run's ${found} (${short(tokenizer.fingerprint)})`,
    {
      file: locate(["data", "tokenizer", isFile ? "path" : "kind"]),
      key: isFile ? "data.tokenizer.path" : "data.tokenizer",
      hint: `set data.tokenizer: { kind: file, path: ${tokenizerFile} }`,
    },
  );
}

/**
 * What {@link refuseOtherTokenizer} can tell without any text, also of the nested definition that a run starts from: all
 * but whether a tokenizer that is still to be trained becomes the source's.
 *
 * @throws UsageError ESPALIER_SOURCE_TOKENIZER
 */
export async function refuseOtherTokenizerFile(experiment: Experiment): Promise<void> {
  const first = experimentAtCheckpoint(experiment);
  if (first === null) return;
  const { tokenizer } = first.definition.data;
  const path = tokenizer.kind === "file" ? resolve(first.loaded.source.baseDirectory, tokenizer.path) : null;
  await refuseOtherTokenizer(first, path === null ? null : await readTokenizer(path));
}

function short(fingerprint: string): string {
  return fingerprint.slice(0, 12);
}
