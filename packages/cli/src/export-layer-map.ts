import {
  EspalierError,
  identityLayerMap,
  type LayerMap,
  type ModelConfig,
  type ModelDescription,
  stream,
  UsageError,
} from "@espalier/core";
import { parseLayerMap } from "./layer-map-option.js";

/** How a network is unrolled; not at all where nothing is given. */
export interface Unrolling {
  /** Layers of the network that is written, unrolled by the run's own layer mapping. */
  readonly depth?: number;
  /** Which layer each written layer is a copy of, `0,0,1,1`. */
  readonly layerMap?: string;
}

/**
 * Which layer of the checkpoint each layer of the exported network is.
 *
 * @throws UsageError where the depth cannot be reached, or nothing says how
 */
export async function layerMapFor(
  path: string,
  { depth, layerMap }: Unrolling,
  family: ModelDescription,
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
  family: ModelDescription,
  config: ModelConfig,
  depth: number,
): Promise<LayerMap> {
  const { definitionOfRun } = await import("./run/definition-of-run.js");
  const source = await definitionOfRun(path);
  if (source === null)
    throw new UsageError(
      "ESPALIER_EXPORT_MAPPING",
      `"${path}" belongs to no run whose layer mapping would tell how ${config.depth} layers make ${depth}`,
      { file: path, hint: "say it with --layer-map, for example 0,0,1,1" },
    );
  const [{ checkDefinition, chooseStrategy, createStrategy, splitReference }, { loadRegistry }] =
    await Promise.all([import("@espalier/experiments"), import("./composition-root.js")]);
  const loaded = await checkDefinition(source, []);
  const { definition, locate } = loaded;
  const registry = await loadRegistry(loaded);
  const choice = chooseStrategy(
    registry,
    "layerMapping",
    splitReference(definition.growth.sharing ?? {}),
    "growth.sharing",
    locate,
  );
  const mapping = createStrategy(
    choice,
    {
      target: { ...config, depth },
      family: registry.strategy("family", family.name).declaration.create({}, {}),
    },
    locate,
  );
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
