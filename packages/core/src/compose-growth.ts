import { EspalierError, UsageError } from "./errors.js";
import {
  type AxisMap,
  type GrowthMap,
  type GrowthTerm,
  type MomentPolicy,
  type ParameterGrowth,
  type SlotSource,
  type StepCountSource,
  withMoments,
} from "./growth-map.js";
import type { ModelFamily } from "./model-family.js";
import type { StrategyName } from "./plugin.js";
import type { RandomStream } from "./random-stream.js";
import { formatShape, type ModelShape, sameShape, shapeOf } from "./shape.js";
import type { WidthOperator } from "./strategy.js";
import { isGrowing } from "./width-axes.js";

/**
 * Two growths as one: the second is applied to what the first makes. Nothing in between is ever made; a model that grows
 * in width and then in depth is computed from its source in one go.
 *
 * @throws EspalierError ESPALIER_GROWTH_MAP_INVALID if the second does not begin where the first ends
 * @throws UsageError ESPALIER_GROWTH_BLEND if the second blends parameters that the first initialises
 */
export function composeGrowthMaps(first: GrowthMap, second: GrowthMap): GrowthMap {
  if (!sameShape(first.to, second.from))
    throw new EspalierError(
      "ESPALIER_GROWTH_MAP_INVALID",
      `the growth map of "${second.expander}" begins at ${formatShape(second.from)}, but that of "${first.expander}" ends at ${formatShape(first.to)}`,
    );
  const between = (name: string): ParameterGrowth => {
    const growth = Object.hasOwn(first.parameters, name) ? first.parameters[name] : undefined;
    if (growth) return growth;
    throw new EspalierError(
      "ESPALIER_GROWTH_MAP_INVALID",
      `the growth map of "${second.expander}" makes a parameter from "${name}", which that of "${first.expander}" does not make`,
    );
  };
  const parameters: { [name: string]: ParameterGrowth } = {};
  for (const [name, growth] of Object.entries(second.parameters))
    parameters[name] = {
      weight: composedSlot(growth.weight, (from) => between(from).weight),
      firstMoment: composedSlot(growth.firstMoment, (from) => between(from).firstMoment),
      secondMoment: composedSlot(growth.secondMoment, (from) => between(from).secondMoment),
      stepCount: composedStepCount(growth.stepCount, (from) => between(from).stepCount),
    };
  return {
    expander: `${first.expander} × ${second.expander}`,
    from: first.from,
    to: second.to,
    layerMap: second.layerMap,
    parameters,
  };
}

function composedSlot(outer: SlotSource, inner: (name: string) => SlotSource): SlotSource {
  if (outer.kind === "zeros" || (outer.kind === "initialize" && !outer.over)) return outer;
  const terms = outer.kind === "sum" ? outer.terms : [outer.over!];
  const [only] = terms;
  // A plain copy of something is made as that is made, whatever it is.
  if (outer.kind === "sum" && terms.length === 1 && only!.scale === 1 && isPlain(only!))
    return inner(only!.from);
  const composed = terms.flatMap((term) => {
    const source = inner(term.from);
    if (source.kind === "zeros") return [];
    if (source.kind === "initialize" || outer.kind === "initialize")
      throw new UsageError(
        "ESPALIER_GROWTH_BLEND",
        `"${term.from}" is freshly initialised by the width operator, which only a depth operator that copies layers can go with`,
        { key: "width" },
      );
    return source.terms.map((innerTerm) => composedTerm(term, innerTerm));
  });
  return composed.length === 0 ? { kind: "zeros" } : { kind: "sum", terms: composed };
}

function isPlain(term: GrowthTerm): boolean {
  return (term.axes ?? []).every((axis) => axis === null);
}

function composedTerm(outer: GrowthTerm, inner: GrowthTerm): GrowthTerm {
  const scale = outer.scale * inner.scale;
  const count = Math.max(outer.axes?.length ?? 0, inner.axes?.length ?? 0);
  if (count === 0) return { from: inner.from, scale };
  const axes = Array.from({ length: count }, (_, axis) =>
    composedAxis(outer.axes?.[axis] ?? null, inner.axes?.[axis] ?? null),
  );
  return { from: inner.from, scale, axes };
}

function composedAxis(outer: AxisMap | null, inner: AxisMap | null): AxisMap | null {
  if (outer === null) return inner;
  if (inner === null) return outer;
  if (outer.kind !== "index" || inner.kind !== "index")
    throw new EspalierError(
      "ESPALIER_GROWTH_MAP_INVALID",
      "an axis of matrices is not composed with another",
    );
  const indices = outer.indices.map((at) => inner.indices[at]!);
  if (!outer.scales && !inner.scales) return { kind: "index", indices };
  const scales = outer.indices.map((at, entry) => (outer.scales?.[entry] ?? 1) * (inner.scales?.[at] ?? 1));
  return { kind: "index", indices, scales };
}

function composedStepCount(
  outer: StepCountSource,
  inner: (name: string) => StepCountSource,
): StepCountSource {
  if (outer.kind === "zero") return outer;
  const sources = outer.names.map(inner);
  // The smallest of several counts is 0 where one is.
  const names = sources.flatMap((source) => (source.kind === "from" ? source.names : []));
  if (sources.some((source) => source.kind === "zero") || names.length === 0) return { kind: "zero" };
  return { kind: "from", names: [...new Set(names)] };
}

/**
 * Growth in width by an operator and then in depth, as one map; growth in depth alone where the width stays.
 *
 * @param options.width null where none was chosen: a growth in width is then what `depth` says of it
 * @param options.widthMoments what happens to moments in the growth in width, whatever the operator has for it; null for
 *   the operator's own (see {@link momentsForWidth})
 * @param options.depth the growth map of the depth operator from a shape of the target's width
 * @throws what either throws
 */
export function planWidthAndDepth(options: {
  readonly width: WidthOperator | null;
  readonly widthMoments?: MomentPolicy | null;
  readonly from: ModelShape;
  readonly to: ModelShape;
  readonly family: ModelFamily;
  readonly random: RandomStream;
  readonly depth: (from: ModelShape) => GrowthMap;
}): GrowthMap {
  const { width, widthMoments = null, from, to, family, random, depth } = options;
  if (width === null || !isGrowing(from, to)) return depth(from);
  const widened = { ...shapeOf(to), depth: from.depth };
  const own = width.plan(shapeOf(from), widened, family, random);
  const wide = widthMoments === null ? own : withPolicy(own, widthMoments, family);
  return composeGrowthMaps(wide, depth(widened));
}

/**
 * The policy for moments that a depth operator's own option `moments` puts on the growth in width that goes with it: what
 * was given, unless the width operator was given one of its own (`width: { use: fpi, moments: carry }`). Where neither
 * was, null: the width operator's default holds for what it widens.
 *
 * @param given the option as it was given, without a default
 */
export function momentsForWidth(
  width: StrategyName | undefined,
  given: MomentPolicy | undefined,
): MomentPolicy | null {
  const hasOwn = typeof width === "object" && width.moments !== undefined;
  return hasOwn ? null : (given ?? null);
}

// A growth in width: source and target have the same parameters.
function withPolicy(map: GrowthMap, policy: MomentPolicy, family: ModelFamily): GrowthMap {
  const weights = Object.fromEntries(
    Object.entries(map.parameters).map(([name, { weight }]) => [name, weight]),
  );
  const names = new Set(Object.keys(weights));
  return { ...map, parameters: withMoments(weights, policy, names, family.layout(map.to.depth)) };
}
