import type {
  AxisRole,
  Initializer,
  ModelConfig,
  ModelPart,
  ParameterPlace,
  ParameterSpec,
} from "@espalier/core";

/**
 * What a parameter is, which decides how it starts and whether it decays. `residual` is a weight whose product is added
 * to the residual stream.
 */
export type ParameterRole = "weight" | "residual" | "bias" | "gain";

/** A family's parameters without sizes; layer parameters by suffix. */
export interface ParameterTable {
  /** The prefix of a layer's parameters. */
  readonly layerPrefix: (layer: number) => string;
  /** How the matrices of linear layers lie: PyTorch's `Linear` is `out_in`, Hugging Face's `Conv1D` `in_out`. */
  readonly weightLayout: "out_in" | "in_out";
  /** The last layer norm before a decoder that is tied to the embedding, without `.weight` and `.bias`. */
  readonly normBeforeTiedDecoder: string;
  readonly embedding: readonly ParameterRow[];
  readonly layer: readonly ParameterRow[];
  readonly head: readonly ParameterRow[];
}

/** Name (or suffix), role, and what each axis counts. */
export type ParameterRow = readonly [name: string, role: ParameterRole, ...axes: AxisRole[]];

interface RoledPlace extends ParameterPlace {
  readonly role: ParameterRole;
}

/** Every parameter's place: embeddings, then layer by layer, then the head. */
export function layoutOf(table: ParameterTable, depth: number): readonly ParameterPlace[] {
  return roledPlaces(table, depth).map(({ role: _, ...place }) => place);
}

/** Every parameter with its size, its initial values and whether it decays, in the order of {@link layoutOf}. */
export function specsOf(table: ParameterTable, config: ModelConfig): readonly ParameterSpec[] {
  return roledPlaces(table, config.depth).map(({ role, ...place }) => ({
    ...place,
    shape: place.axes.map((axis) => axisSize(axis, config)),
    decay: role === "weight" || role === "residual",
    initializer: initializerOf(role, config),
  }));
}

function roledPlaces(table: ParameterTable, depth: number): RoledPlace[] {
  const rows = (part: ModelPart, layer: number | null, prefix: string) =>
    table[part].map(([suffix, role, ...axes]) => ({
      name: prefix + suffix,
      part,
      layer,
      suffix,
      axes,
      role,
      inputAxis: inputAxisOf(role, axes, table),
      ...(suffix.startsWith(`${table.normBeforeTiedDecoder}.`) ? { beforeTiedDecoder: true as const } : {}),
    }));
  const layers = Array.from({ length: depth }, (_, layer) => rows("layer", layer, table.layerPrefix(layer)));
  return [...rows("embedding", null, ""), ...layers.flat(), ...rows("head", null, "")];
}

// A matrix that has rows for tokens, positions or token types is looked up in, not multiplied with.
function inputAxisOf(
  role: ParameterRole,
  axes: readonly AxisRole[],
  { weightLayout }: ParameterTable,
): number | null {
  const isLookedUp = axes.some((axis) => ["vocabulary", "positions", "tokenTypes"].includes(axis));
  if (axes.length !== 2 || isLookedUp || (role !== "weight" && role !== "residual")) return null;
  return weightLayout === "out_in" ? 1 : 0;
}

/** How many entries an axis has. */
export function axisSize(axis: AxisRole, config: ModelConfig): number {
  switch (axis) {
    case "vocabulary":
      return config.vocabSize;
    case "positions":
      return config.maxPositions;
    case "tokenTypes":
      return config.tokenTypes;
    case "hidden":
    case "heads":
      return config.hiddenSize;
    case "qkv":
      return 3 * config.hiddenSize;
    case "intermediate":
      return config.intermediateSize;
    default:
      return axis satisfies never;
  }
}

// Weights that write to the residual stream start smaller by √(2·depth), so that its variance does not grow with depth
// (Radford et al. 2019, §2.3). Only GPT-2 has them.
function initializerOf(role: ParameterRole, config: ModelConfig): Initializer {
  if (role === "bias") return { kind: "zeros" };
  if (role === "gain") return { kind: "ones" };
  const deviation = config.initializerRange;
  return {
    kind: "normal",
    deviation: role === "residual" ? deviation / Math.sqrt(2 * config.depth) : deviation,
  };
}
