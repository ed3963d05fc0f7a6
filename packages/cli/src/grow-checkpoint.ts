import { join } from "node:path";
import { checkpointFiles, writeCheckpointFolder, writeTextDurably } from "@espalier/checkpoints";
import {
  checkShape,
  describeGrowthMap,
  type Expander,
  formatShape,
  type GrowthMap,
  hashGrowthMap,
  type JsonObject,
  type LayerMap,
  type ModelConfig,
  type ModelFamily,
  type ModelShape,
  sameShape,
  serializeGrowthMap,
  shapeAxes,
  shapeOf,
  stream,
  UsageError,
  unknownName,
} from "@espalier/core";
import {
  chooseStrategy,
  createStrategy,
  type PluginRegistry,
  parseAssignment,
  type Reference,
  splitReference,
  widthOperators,
} from "@espalier/experiments";
import { applyGrowthMap, disposeParameters, weightsOf } from "@espalier/growth";
import { loadTrainingParameters, momentsToWrite, weightsToWrite } from "@espalier/trainer";
import { openModel } from "./checkpoint-model.js";
import { loadRegistry } from "./composition-root.js";
import type { EngineOptions } from "./engine-options.js";
import { type PluginOption, pluginsOfCommandLine } from "./plugin-option.js";
import { pluginsOfRun } from "./plugins-of-run.js";
import { loadEngine } from "./run/engine.js";
import { tokenFilesOf, tokenIdsOf, tokenizerFor } from "./token-files.js";

/** How a checkpoint grows. */
export interface GrowthRequest extends EngineOptions, PluginOption {
  /** An expander's name, or a preset's. */
  readonly using: string;
  /** `depth=12,hiddenSize=768` */
  readonly to: string;
  /** Options of the expander, `key=value`. */
  readonly expanderOptions: readonly string[];
  /** The grown checkpoint's folder; without it nothing grows, and only the growth map is made. */
  readonly out?: string | undefined;
  readonly seed: number;
  /** A file for the growth map, as `serializeGrowthMap` writes it. */
  readonly map?: string;
  note(text: string): void;
}

/** What was done. */
export interface GrownCheckpoint {
  readonly expander: string;
  readonly from: string;
  readonly to: string;
  /** Whether there were optimizer moments, which grew along. */
  readonly moments: boolean;
  readonly layerMap: LayerMap | null;
  /** Of the growth map. */
  readonly mapHash: string;
  /** The growth map in words. */
  readonly description: string;
}

/**
 * Applies an expander to a checkpoint and writes the result; without a folder for it, only plans.
 *
 * @throws UsageError for an unknown operator, or a shape that it cannot reach
 */
export async function growCheckpoint(path: string, request: GrowthRequest): Promise<GrownCheckpoint> {
  const registry = await loadRegistry(undefined, [
    pluginsOfCommandLine(request.plugin),
    ...(await pluginsOfRun(path, request.note)),
  ]);
  const { checkpoint, family, config } = await openModel(path, registry, request.note);
  try {
    const to = parseShape(request.to, config);
    const grownConfig: ModelConfig = { ...config, ...to };
    checkGrowth(config, to, family, grownConfig);
    const { expander, name } = await chooseExpander(request, registry, to, family);
    const tokenizer = await tokenizerFor(checkpoint, config);
    const tokenFiles = await tokenFilesOf(checkpoint);
    const random = stream(request.seed);
    const map = aboutFile(join(checkpoint.folder, checkpointFiles.config), () =>
      expander.plan(shapeOf(config), to, family, random.fork("growth")),
    );
    const grown = {
      expander: name,
      from: formatShape(config),
      to: formatShape(to),
      moments: checkpoint.optimizer !== null,
      layerMap: map.layerMap,
      mapHash: hashGrowthMap(map),
      description: describeGrowthMap(map),
    };
    if (request.out === undefined) {
      await writeMap(map, request.map);
      return grown;
    }
    await loadEngine(
      {
        backend: request.backend ?? "auto",
        device: request.device ?? "auto",
        threads: request.threads ?? "auto",
      },
      request.note,
    );
    const parameters = applyGrowthMap(
      map,
      await loadTrainingParameters(checkpoint, family, config, "if-present"),
      { config: grownConfig, family, random },
    );
    try {
      // Before the checkpoint: where it cannot be written, the same command can be given again.
      await writeMap(map, request.map);
      await writeCheckpointFolder(request.out, {
        model: weightsToWrite(weightsOf(parameters)),
        optimizer: checkpoint.optimizer === null ? null : momentsToWrite(parameters),
        state: null,
        config: { ...family.toHuggingFace(grownConfig), ...tokenIdsOf(checkpoint, config.vocabSize) },
        ...(tokenizer === null ? {} : { tokenizerJson: tokenizer.json }),
        companions: tokenFiles,
      });
    } finally {
      disposeParameters(parameters);
    }
    return grown;
  } finally {
    await checkpoint.close();
  }
}

async function writeMap(map: GrowthMap, file: string | undefined): Promise<void> {
  if (file !== undefined) await writeTextDurably(file, `${JSON.stringify(serializeGrowthMap(map))}\n`);
}

// What an expander refuses it says of shapes; the source's are in its config.
function aboutFile<T>(file: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof UsageError) || error.file !== undefined) throw error;
    const { code, message, hint, key, cause } = error;
    throw new UsageError(code, message, {
      file,
      cause,
      ...(hint === undefined ? {} : { hint }),
      ...(key === undefined ? {} : { key }),
    });
  }
}

/** Reads `depth=12,hiddenSize=768`; axes that are missing stay. */
export function parseShape(text: string, from: ModelShape): ModelShape {
  const shape: { -readonly [Axis in keyof ModelShape]: number } = shapeOf(from);
  const given = new Set<string>();
  for (const part of text.split(",")) {
    const [axis = "", value = ""] = part.split("=").map((piece) => piece.trim());
    const known = shapeAxes.find((candidate) => candidate === axis);
    if (!known)
      throw unknownName("ESPALIER_SHAPE_AXIS", "axis in --to", axis, shapeAxes, {
        hint: "write it as depth=12,hiddenSize=768",
      });
    if (given.has(known))
      throw new UsageError("ESPALIER_SHAPE_TWICE", `--to gives ${known} twice: "${text}"`, { key: known });
    given.add(known);
    const size = Number(value);
    if (!Number.isSafeInteger(size) || size < 1)
      throw new UsageError(
        "ESPALIER_SHAPE_INVALID",
        `--to ${axis} must be a whole number of at least 1, but is "${value}"`,
        { key: axis },
      );
    shape[known] = size;
  }
  return shape;
}

function checkGrowth(from: ModelShape, to: ModelShape, family: ModelFamily, config: ModelConfig): void {
  checkShape(to, "--to");
  family.check(config);
  if (sameShape(from, to))
    throw new UsageError(
      "ESPALIER_GROWTH_NONE",
      `the checkpoint has that shape already: ${formatShape(from)}`,
      {
        hint: "name a larger one with --to",
      },
    );
}

async function chooseExpander(
  request: GrowthRequest,
  registry: PluginRegistry,
  target: ModelShape,
  family: ModelFamily,
): Promise<{ readonly expander: Expander; readonly name: string }> {
  const reference = await expanderReference(request, registry, target);
  const noPlace = () => "command line";
  const choice = chooseStrategy(registry, "expander", reference, "using", noPlace);
  const services = { target, family, widthOperator: widthOperators(registry, noPlace) };
  return { name: choice.use, expander: createStrategy(choice, services, noPlace) };
}

async function expanderReference(
  { using, expanderOptions }: GrowthRequest,
  registry: PluginRegistry,
  target: ModelShape,
): Promise<Reference> {
  const given = Object.fromEntries(await Promise.all(expanderOptions.map(parseAssignment))) as JsonObject;
  if (registry.names("expander").includes(using)) return { use: using, options: given };
  if (!registry.hasPreset(using))
    throw unknownName(
      "ESPALIER_STRATEGY_UNKNOWN",
      "expander or preset",
      using,
      [...new Set([...registry.names("expander"), ...registry.presetNames()])],
      { key: "using", file: "command line" },
    );
  const { expander } = registry.preset(using).preset.growth(target);
  const preset =
    typeof expander === "string" ||
    (typeof expander === "object" && expander !== null && !Array.isArray(expander))
      ? splitReference(expander as string | JsonObject)
      : { use: undefined, options: {} };
  return { use: preset.use, options: { ...preset.options, ...given } };
}
