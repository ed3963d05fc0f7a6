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
  EspalierError,
  formatShape,
  identityLayerMap,
  type JsonObject,
  type LayerMap,
  type ModelConfig,
  type ModelFamily,
  stream,
  UsageError,
} from "@espalier/core";
import { type TextTokenizer, tokenizerFiles } from "@espalier/data";
import { checkDefinition, chooseStrategy, createStrategy, splitReference } from "@espalier/experiments";
import { openModel } from "./checkpoint-model.js";
import { loadRegistry } from "./composition-root.js";
import { parseLayerMap } from "./probe-checkpoint.js";
import { readTokenizer } from "./read-tokenizer.js";
import { definitionOfRun } from "./run/definition-of-run.js";

/** What is exported. */
export interface ExportRequest {
  readonly out: string;
  /** The step of a run; default: its last. */
  readonly step?: number;
  /** Layers of the network that is written, unrolled by the run's own layer mapping. */
  readonly depth?: number;
  /** Which layer each written layer is a copy of, `0,0,1,1`. */
  readonly layerMap?: string;
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
  const { checkpoint, family, config } = await openModel(place, await loadRegistry());
  try {
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
    const tokenizer =
      checkpoint.tokenizerFile === null ? null : await readTokenizer(checkpoint.tokenizerFile);
    const huggingFace = { ...family.toHuggingFace(written), ...generationTokens(family, tokenizer) };
    await writeCheckpointFolder(request.out, {
      model,
      optimizer: null,
      state: null,
      config: huggingFace,
      ...(tokenizer === null ? {} : { tokenizerJson: tokenizer.json }),
      companions: companionsOf(family, written, tokenizer),
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

async function layerMapFor(
  path: string,
  { depth, layerMap }: ExportRequest,
  family: ModelFamily,
  config: ModelConfig,
): Promise<LayerMap> {
  if (layerMap !== undefined) {
    const map = parseLayerMap(layerMap, config.depth);
    if (depth !== undefined && depth !== map.length)
      throw new UsageError(
        "ESPALIER_EXPORT_DEPTH",
        `--layer-map ${layerMap} has ${map.length} layers, but --depth is ${depth}`,
        { hint: "give one of the two" },
      );
    return map;
  }
  if (depth === undefined || depth === config.depth) return identityLayerMap(config.depth);
  if (depth < config.depth)
    throw new UsageError(
      "ESPALIER_EXPORT_DEPTH",
      `--depth ${depth} is less than the ${config.depth} layers that the checkpoint has`,
      { file: path, hint: `leave layers out with --layer-map, for example --layer-map 0` },
    );
  return mappingOfRun(path, family, config, depth);
}

/** The layers that the run itself would share at that depth, as in its evaluation. */
async function mappingOfRun(
  path: string,
  family: ModelFamily,
  config: ModelConfig,
  depth: number,
): Promise<LayerMap> {
  const source = await definitionOfRun(path);
  if (source === null)
    throw new UsageError(
      "ESPALIER_EXPORT_MAPPING",
      `"${path}" belongs to no run whose layer mapping would tell how ${config.depth} layers make ${depth}`,
      { file: path, hint: "say it with --layer-map, for example 0,0,1,1" },
    );
  const loaded = await checkDefinition(source, []);
  const { definition, locate } = loaded;
  const choice = chooseStrategy(
    await loadRegistry(loaded),
    "layerMapping",
    splitReference(definition.growth.sharing ?? {}),
    "growth.sharing",
    locate,
  );
  const mapping = createStrategy(choice, { target: { ...config, depth }, family }, locate);
  try {
    return mapping(config.depth, depth, stream(definition.seed).fork("evaluation"));
  } catch (error) {
    if (!(error instanceof EspalierError)) throw error;
    throw new UsageError(
      "ESPALIER_EXPORT_DEPTH",
      `the run's layer mapping "${choice.use}" does not make ${depth} layers of ${config.depth}: ${error.message}`,
      { file: path, cause: error, ...(error.hint === undefined ? {} : { hint: error.hint }) },
    );
  }
}

/** Where generation begins and ends. */
function generationTokens(family: ModelFamily, tokenizer: TextTokenizer | null): JsonObject {
  const end = tokenizer?.info.endOfText ?? null;
  return family.causal && end !== null ? { bos_token_id: end, eos_token_id: end } : {};
}

function companionsOf(
  family: ModelFamily,
  config: ModelConfig,
  tokenizer: TextTokenizer | null,
): { readonly [file: string]: JsonObject } {
  const tokens = generationTokens(family, tokenizer);
  return {
    ...(tokenizer === null
      ? {}
      : tokenizerFiles(tokenizer, { maxLength: config.maxPositions, hasTokenTypes: config.tokenTypes > 0 })),
    // A batch is padded with something, which generation then leaves out of sight.
    ...(tokens.eos_token_id === undefined
      ? {}
      : {
          "generation_config.json": {
            _from_model_config: true,
            ...tokens,
            pad_token_id: tokenizer?.info.padToken ?? tokens.eos_token_id,
          },
        }),
  };
}

function architectureOf(config: JsonObject): string {
  const { architectures } = config;
  return Array.isArray(architectures) && typeof architectures[0] === "string"
    ? architectures[0]
    : "AutoModel";
}
