import { stat } from "node:fs/promises";
import {
  listSteps,
  matchTensors,
  refuseUntied,
  stepFolder,
  type TensorToWrite,
  writeCheckpointFolder,
} from "@espalier/checkpoints";
import {
  formatShape,
  type JsonObject,
  type LayerMap,
  type ModelConfig,
  type ModelDescription,
  UsageError,
} from "@espalier/core";
import type { TextTokenizer } from "@espalier/data";
import { openDescribed } from "./checkpoint-description.js";
import { layerMapFor, type Unrolling } from "./export-layer-map.js";
import { noteDamage } from "./note-damage.js";
import { tokenFilesOf, tokenIdsOf, tokenizerFor } from "./token-files.js";

/** What is exported. */
export interface ExportRequest extends Unrolling {
  readonly out: string;
  /** The step of a run; default: its last. */
  readonly step?: number;
  readonly note?: (text: string) => void;
}

/** What was written. */
export interface ExportedCheckpoint {
  readonly from: string;
  readonly step: number | null;
  readonly shape: string;
  /** Which layer of the checkpoint each written layer is; null where each is written once. */
  readonly layerMap: LayerMap | null;
  readonly hasTokenizer: boolean;
  /** Hugging Face's class, to load it with. */
  readonly architecture: string;
}

/**
 * Writes a checkpoint as a folder that Hugging Face's library loads. Copies bytes; needs no engine.
 *
 * @throws UsageError where the step is not there, the depth cannot be reached, or the folder exists
 */
export async function exportCheckpoint(path: string, request: ExportRequest): Promise<ExportedCheckpoint> {
  const place = request.step === undefined ? path : await placeOfStep(path, request.step);
  const { checkpoint, family, config } = await openDescribed(place);
  try {
    if (request.note) noteDamage(checkpoint, request.note);
    const map = await layerMapFor(place, request, family, config);
    const match = matchTensors(checkpoint.weights, {
      parameters: family.parameters(config),
      foreign: family.foreignTensors ?? [],
      leaveOut: [],
    });
    await refuseUntied(checkpoint.weights, match);
    const written: ModelConfig = { ...config, depth: map.length };
    const model = family.parameters(written).map(({ name, shape, layer, suffix }): TensorToWrite => {
      const source = layer === null ? name : family.layerParameter(map[layer]!, suffix);
      const stored = match.parameters.get(source)!;
      return { name, type: "F32", shape, data: () => checkpoint.weights.floatPieces(stored.name) };
    });
    const tokenizer = await tokenizerFor(checkpoint, config);
    const ids = { ...generationTokens(family, tokenizer), ...tokenIdsOf(checkpoint, config.vocabSize) };
    const huggingFace = { ...family.toHuggingFace(written), ...ids };
    await writeCheckpointFolder(request.out, {
      model,
      optimizer: null,
      state: null,
      config: huggingFace,
      ...(tokenizer === null ? {} : { tokenizerJson: tokenizer.json }),
      companions: await companionsFor(written, tokenizer, ids, await tokenFilesOf(checkpoint)),
    });
    return {
      from: checkpoint.folder,
      step: checkpoint.step,
      shape: formatShape(written),
      layerMap: map.every((layer, position) => layer === position) ? null : map,
      hasTokenizer: tokenizer !== null,
      architecture: architectureOf(huggingFace),
    };
  } finally {
    await checkpoint.close();
  }
}

async function placeOfStep(path: string, step: number): Promise<string> {
  const steps = await listSteps(path);
  if (steps.includes(step)) return stepFolder(path, step);
  if (!(await stat(path).catch(() => null)))
    throw new UsageError("ESPALIER_CHECKPOINT_NOT_FOUND", `"${path}" does not exist`, { file: path });
  throw new UsageError(
    "ESPALIER_STEP_NOT_FOUND",
    steps.length === 0
      ? `--step names a step of a run, but "${path}" is no run folder with checkpoints`
      : `the run has no checkpoint of step ${step}; it has ${steps.join(", ")}`,
    {
      file: path,
      ...(steps.length === 0 ? {} : { hint: "checkpoints.every and checkpoints.keep say which steps stay" }),
    },
  );
}

/** Where generation begins and ends. */
function generationTokens(family: ModelDescription, tokenizer: TextTokenizer | null): JsonObject {
  const end = tokenizer?.info.endOfText ?? null;
  return family.causal && end !== null ? { bos_token_id: end, eos_token_id: end } : {};
}

/** What `transformers` reads beside the tokenizer: what the checkpoint brings, else made from its tokenizer. */
async function companionsFor(
  config: ModelConfig,
  tokenizer: TextTokenizer | null,
  ids: JsonObject,
  there: { readonly [file: string]: JsonObject },
): Promise<{ readonly [file: string]: JsonObject }> {
  if (tokenizer === null) return there;
  const { tokenizerFiles } = await import("@espalier/data");
  const use = { maxLength: config.maxPositions, hasTokenTypes: config.tokenTypes > 0 };
  const end = ids.eos_token_id ?? null;
  return {
    ...("tokenizer_config.json" in there ? {} : tokenizerFiles(tokenizer, use)),
    // A batch is padded with something, which generation then leaves out of sight.
    ...(end === null
      ? {}
      : {
          "generation_config.json": {
            _from_model_config: true,
            bos_token_id: ids.bos_token_id ?? end,
            eos_token_id: end,
            pad_token_id: ids.pad_token_id ?? tokenizer.info.padToken ?? end,
          },
        }),
    ...there,
  };
}

function architectureOf(config: JsonObject): string {
  const { architectures } = config;
  return Array.isArray(architectures) && typeof architectures[0] === "string"
    ? architectures[0]
    : "AutoModel";
}
