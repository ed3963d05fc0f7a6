import type { LayerMap } from "./layer-map.js";
import type { ParameterPlace } from "./model-family.js";
import type { ModelShape } from "./shape.js";

/**
 * How one axis of a target tensor is taken from the same axis of a source tensor: by index, each entry scaled, or by a
 * matrix `[target, source]` (row-major) for learned operators.
 */
export type AxisMap =
  | { readonly kind: "index"; readonly indices: readonly number[]; readonly scales?: readonly number[] }
  | { readonly kind: "matrix"; readonly rows: readonly (readonly number[])[] };

/** One source of a target tensor. `axes[i]` maps axis i; `null` (or no `axes`) keeps it as it is. */
export interface GrowthTerm {
  readonly from: string;
  readonly scale: number;
  readonly axes?: readonly (AxisMap | null)[];
}

/**
 * How one tensor is made: the sum of its terms; or zeros; or freshly initialised as the model family does it for that
 * parameter (from the run's own stream for new parameters), except where `over` gives something: the entries that no
 * scale of `over`'s axes is 0 for.
 */
export type SlotSource =
  | { readonly kind: "sum"; readonly terms: readonly GrowthTerm[] }
  | { readonly kind: "zeros" }
  | { readonly kind: "initialize"; readonly over?: GrowthTerm };

/** The optimizer's count of updates of a parameter: that of its source (the smallest of several), or 0. */
export type StepCountSource =
  | { readonly kind: "from"; readonly names: readonly string[] }
  | { readonly kind: "zero" };

/** Where each slot of one target parameter comes from. */
export interface ParameterGrowth {
  readonly weight: SlotSource;
  readonly firstMoment: SlotSource;
  readonly secondMoment: SlotSource;
  readonly stepCount: StepCountSource;
}

/**
 * Growth as data: for every parameter of the target shape and each of its slots, from which source it is made and with
 * which scale. Printable, hashable, serialisable; `growth/` applies it on the device.
 */
export interface GrowthMap {
  /** The expander that planned it. */
  readonly expander: string;
  readonly from: ModelShape;
  readonly to: ModelShape;
  /** Which source layer each target layer was made from, where one was. */
  readonly layerMap: LayerMap | null;
  readonly parameters: { readonly [name: string]: ParameterGrowth };
}

/**
 * What happens to optimizer moments. `carry`: each slot from the weight's own source. `reset`: every layer of which growth
 * makes or changes a parameter starts empty, all of it; embeddings and head keep theirs, and where they are widened, take
 * them along as `carry` does. `upstream`: moments stay at their index while weights move, new layers start empty (what
 * Apollo's released code does).
 */
export type MomentPolicy = "carry" | "reset" | "upstream";

/** The policies, for option schemas. */
export const momentPolicies = ["carry", "reset", "upstream"] as const satisfies readonly MomentPolicy[];

/** An unscaled copy of one source tensor. */
export function copyOf(name: string): SlotSource {
  return { kind: "sum", terms: [{ from: name, scale: 1 }] };
}

/** Whether a slot is the plain, unscaled copy of the given tensor. */
export function isCopyOf(source: SlotSource, name: string): boolean {
  if (source.kind !== "sum" || source.terms.length !== 1) return false;
  const term = source.terms[0]!;
  return term.from === name && term.scale === 1 && (term.axes ?? []).every((axis) => axis === null);
}

/**
 * Completes a plan for weights with a policy for moments. A copy that is scaled by s scales the first moment by s and
 * the second by s² (term by term in a sum), index scales and matrices alike. A weight that takes nothing from its
 * source (all scales 0) starts with empty moments: second moments of 0 beside a high step count would make its first
 * updates several times too large.
 *
 * @param weights the weight slot of every target parameter
 * @param sourceNames the parameters that exist before growth
 * @param places which layer each target parameter belongs to: `family.layout(to.depth)`
 */
export function withMoments(
  weights: { readonly [name: string]: SlotSource },
  policy: MomentPolicy,
  sourceNames: ReadonlySet<string>,
  places: readonly Pick<ParameterPlace, "name" | "layer">[],
): { [name: string]: ParameterGrowth } {
  const parameters: { [name: string]: ParameterGrowth } = {};
  const squares: SquaredAxes = new Map();
  const layerOf = new Map(places.map(({ name, layer }) => [name, layer]));
  const changedLayers = new Set<number>();
  for (const [name, weight] of Object.entries(weights)) {
    const layer = layerOf.get(name) ?? null;
    if (layer !== null && !isCopyOf(weight, name)) changedLayers.add(layer);
  }
  for (const [name, weight] of Object.entries(weights))
    parameters[name] = { weight, ...moments(name, weight) };
  return parameters;

  function moments(name: string, weight: SlotSource): Omit<ParameterGrowth, "weight"> {
    const layer = layerOf.get(name) ?? null;
    if (policy === "reset" && layer !== null && changedLayers.has(layer)) return emptyMoments;
    const unchanged = isCopyOf(weight, name);
    if (unchanged || (policy === "upstream" && sourceNames.has(name) && keepsShape(weight)))
      return ownMoments(name);
    if (policy === "upstream" || weight.kind !== "sum") return emptyMoments;
    const contributing = weight.terms.filter((term) => term.scale !== 0);
    if (contributing.length === 0) return emptyMoments;
    return {
      firstMoment: { kind: "sum", terms: contributing },
      secondMoment: squared(contributing, squares),
      stepCount: { kind: "from", names: [...new Set(contributing.map((term) => term.from))] },
    };
  }
}

/** No first and second moment, and no update yet. */
export const emptyMoments: Omit<ParameterGrowth, "weight"> = {
  firstMoment: { kind: "zeros" },
  secondMoment: { kind: "zeros" },
  stepCount: { kind: "zero" },
};

/** The moments of a parameter that stays as it is. */
export function ownMoments(name: string): Omit<ParameterGrowth, "weight"> {
  return {
    firstMoment: copyOf(name),
    secondMoment: copyOf(name),
    stepCount: { kind: "from", names: [name] },
  };
}

// Moments that stay at their index are only possible where the tensor keeps its shape.
function keepsShape(weight: SlotSource): boolean {
  return (
    weight.kind === "sum" && weight.terms.every((term) => (term.axes ?? []).every((axis) => axis === null))
  );
}

/** Axis maps with their scales squared: maps of the same units stay the same object. */
export type SquaredAxes = Map<AxisMap, AxisMap>;

/**
 * Every scale squared, indices and matrices kept: what second moments are made with.
 *
 * @param squares the axis maps of this growth that were squared before
 */
export function squared(terms: readonly GrowthTerm[], squares: SquaredAxes): SlotSource {
  return {
    kind: "sum",
    terms: terms.map((term) => ({
      from: term.from,
      scale: term.scale * term.scale,
      ...(term.axes ? { axes: term.axes.map((axis) => squaredAxis(axis, squares)) } : {}),
    })),
  };
}

function squaredAxis(axis: AxisMap | null, squares: SquaredAxes): AxisMap | null {
  if (axis === null) return null;
  const known = squares.get(axis);
  if (known) return known;
  const made = squaredMap(axis);
  squares.set(axis, made);
  return made;
}

function squaredMap(axis: AxisMap): AxisMap {
  if (axis.kind === "matrix")
    return { kind: "matrix", rows: axis.rows.map((row) => row.map((value) => value * value)) };
  return axis.scales ? { ...axis, scales: axis.scales.map((scale) => scale * scale) } : axis;
}
