import { EspalierError, UsageError } from "./errors.js";
import {
  emptyMoments,
  type GrowthMap,
  isCopyOf,
  type MomentPolicy,
  momentPolicies,
  ownMoments,
  type ParameterGrowth,
  type SlotSource,
  type SquaredAxes,
  squared,
  withMoments,
} from "./growth-map.js";
import type { ModelFamily, ParameterPlace } from "./model-family.js";
import { formatShape, type ModelShape, shapeAxes } from "./shape.js";
import { type AxesOf, type AxisUse, axisMaps, type UnitMaps } from "./width-axes.js";

/**
 * What happens to moments when a model grows in width. `gradient`: they become those that the grown model's own gradients
 * would have left (for a growth that preserves the function): divided by the copy counts of what a parameter gives out,
 * second moments by their squares. The others are {@link MomentPolicy}'s.
 */
export type WidthMoments = MomentPolicy | "gradient";

/** The policies, for option schemas. */
export const widthMoments = ["gradient", ...momentPolicies] as const satisfies readonly WidthMoments[];

/**
 * Refuses a growth in width that cannot be: narrower, or with heads of another size.
 *
 * @throws UsageError ESPALIER_GROWTH_SHRINKS, ESPALIER_GROWTH_HEAD_SIZE
 */
export function checkWidth(from: ModelShape, to: ModelShape): void {
  for (const axis of shapeAxes)
    if (to[axis] < from[axis])
      throw new UsageError(
        "ESPALIER_GROWTH_SHRINKS",
        `a model cannot grow from ${formatShape(from)} to ${formatShape(to)}: ${axis} falls from ${from[axis]} to ${to[axis]}`,
        { key: axis },
      );
  const [before, after] = [from, to].map((shape) => shape.hiddenSize / shape.attentionHeads);
  if (before === after) return;
  const fitting = to.hiddenSize / before!;
  throw new UsageError(
    "ESPALIER_GROWTH_HEAD_SIZE",
    `heads are copied whole: the source has ${from.attentionHeads} heads of ${before} channels, but ${to.hiddenSize} channels in ${to.attentionHeads} heads are ${after} each`,
    {
      key: "attentionHeads",
      hint: Number.isSafeInteger(fitting)
        ? `attentionHeads=${fitting} keeps heads of ${before} channels`
        : `hiddenSize must be a multiple of ${before}, with one head for each ${before} channels`,
    },
  );
}

/**
 * The growth map of a width operator, at the depth of the source. Every parameter is made alike: its axes follow the units
 * that they count, by the family's own description of them, and what feeds a parameter is divided by its copy counts
 * (function-preserving initialisation: Chen et al., Net2Net, ICLR 2016; bert2BERT, ACL 2022, eq. 5 to 8).
 *
 * @param options.source another way to make a parameter from the axis maps of the source's places
 * @throws UsageError for a growth that cannot be (`checkWidth`)
 * @throws EspalierError ESPALIER_GROWTH_MAP_INVALID if the depths differ, or units are missing
 */
export function planWidth(options: {
  readonly expander: string;
  readonly from: ModelShape;
  readonly to: ModelShape;
  readonly family: Pick<ModelFamily, "layout">;
  readonly moments: WidthMoments;
  readonly units: UnitMaps;
  readonly source?: (place: ParameterPlace, axes: AxesOf, use: AxisUse) => SlotSource;
}): GrowthMap {
  const { expander, from, to, family, moments, units } = options;
  checkWidth(from, to);
  const refuse = (reason: string): never => {
    throw new EspalierError("ESPALIER_GROWTH_MAP_INVALID", `width operator "${expander}" ${reason}`);
  };
  if (from.depth !== to.depth) refuse(`is asked to grow ${from.depth} layers to ${to.depth}`);
  if (units.hidden.length !== to.hiddenSize)
    refuse(`maps ${units.hidden.length} channels for a hidden size of ${to.hiddenSize}`);
  const axes = axisMaps(units, from);
  const source = options.source ?? copied;
  const places = family.layout(from.depth);
  const weights = Object.fromEntries(places.map((place) => [place.name, source(place, axes, "weight")]));
  const map = { expander, from, to, layerMap: null };
  if (moments !== "gradient")
    return { ...map, parameters: withMoments(weights, moments, new Set(Object.keys(weights)), places) };
  const parameters: { [name: string]: ParameterGrowth } = {};
  const squares: SquaredAxes = new Map();
  for (const place of places) {
    const weight = weights[place.name]!;
    parameters[place.name] = {
      weight,
      ...gradientMoments(place.name, weight, source(place, axes, "gradient"), squares),
    };
  }
  return { ...map, parameters };
}

/** A parameter as the copy of itself, with its axes mapped. */
export function copied(place: ParameterPlace, axes: AxesOf, use: AxisUse): SlotSource {
  const maps = axes(place, use);
  return {
    kind: "sum",
    terms: [{ from: place.name, scale: 1, ...(maps.some((map) => map !== null) ? { axes: maps } : {}) }],
  };
}

function gradientMoments(
  name: string,
  weight: SlotSource,
  gradient: SlotSource,
  squares: SquaredAxes,
): Omit<ParameterGrowth, "weight"> {
  if (isCopyOf(weight, name) && isCopyOf(gradient, name)) return ownMoments(name);
  if (gradient.kind !== "sum") return emptyMoments;
  return {
    firstMoment: gradient,
    secondMoment: squared(gradient.terms, squares),
    stepCount: { kind: "from", names: [...new Set(gradient.terms.map((term) => term.from))] },
  };
}
