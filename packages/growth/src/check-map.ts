import {
  type AxisMap,
  EspalierError,
  formatShape,
  type GrowthMap,
  type GrowthTerm,
  type ModelConfig,
  type ModelFamily,
  type ParameterSpec,
  type SlotSource,
  sameShape,
  suggest,
} from "@espalier/core";

/** The slots of a parameter that hold a tensor of its shape. */
export const tensorSlots = ["weight", "firstMoment", "secondMoment"] as const;

/**
 * Holds a growth map against the parameters that it grows from and the shape that it grows to, before anything is
 * allocated.
 *
 * @param sourceShapes shape of every parameter there is
 * @returns the target's parameters, in the family's order
 * @throws EspalierError ESPALIER_GROWTH_MAP_INVALID
 */
export function checkGrowthMap(
  map: GrowthMap,
  sourceShapes: ReadonlyMap<string, readonly number[]>,
  family: ModelFamily,
  config: ModelConfig,
): readonly ParameterSpec[] {
  if (!sameShape(map.to, config))
    refuse(map, `grows to ${formatShape(map.to)}, but the target is ${formatShape(config)}`);
  const specs = family.parameters(config);
  const checked: CheckedAxes = new WeakMap();
  const targets = new Set(specs.map((spec) => spec.name));
  for (const name of Object.keys(map.parameters))
    if (!targets.has(name))
      refuse(map, `makes "${name}", which ${family.name} at ${formatShape(config)} does not have`);
  for (const spec of specs) {
    const growth = Object.hasOwn(map.parameters, spec.name) ? map.parameters[spec.name] : undefined;
    if (!growth) return refuse(map, `does not say how "${spec.name}" is made`);
    for (const slot of tensorSlots) checkSlot(map, spec, slot, growth[slot], sourceShapes, checked);
    if (growth.stepCount.kind === "from") {
      if (growth.stepCount.names.length === 0)
        refuse(map, `takes the step count of "${spec.name}" from no parameter`);
      for (const name of growth.stepCount.names) sourceShape(map, spec.name, name, sourceShapes);
    }
  }
  return specs;
}

/** The axis maps that fit, and from which length: the same map serves many parameters. */
type CheckedAxes = WeakMap<AxisMap, number>;

function refuse(map: GrowthMap, reason: string): never {
  throw new EspalierError("ESPALIER_GROWTH_MAP_INVALID", `the growth map of "${map.expander}" ${reason}`);
}

function sourceShape(
  map: GrowthMap,
  target: string,
  name: string,
  sourceShapes: ReadonlyMap<string, readonly number[]>,
): readonly number[] {
  const shape = sourceShapes.get(name);
  return (
    shape ??
    refuse(
      map,
      `makes "${target}" from "${name}", which the source does not have; ${suggest(name, [...sourceShapes.keys()])}`,
    )
  );
}

function checkSlot(
  map: GrowthMap,
  spec: ParameterSpec,
  slot: (typeof tensorSlots)[number],
  source: SlotSource,
  sourceShapes: ReadonlyMap<string, readonly number[]>,
  checked: CheckedAxes,
): void {
  const check = (term: GrowthTerm) =>
    checkTerm(map, spec, slot, term, sourceShape(map, spec.name, term.from, sourceShapes), checked);
  if (source.kind === "zeros") return;
  if (source.kind === "initialize") {
    if (slot !== "weight")
      refuse(map, `initialises the ${slot} of "${spec.name}": only weights have an initial value`);
    if (source.over) check(source.over);
    return;
  }
  if (source.terms.length === 0) refuse(map, `makes the ${slot} of "${spec.name}" as a sum of nothing`);
  for (const term of source.terms) check(term);
}

function checkTerm(
  map: GrowthMap,
  spec: ParameterSpec,
  slot: string,
  term: GrowthTerm,
  from: readonly number[],
  checked: CheckedAxes,
): void {
  const what = `the ${slot} of "${spec.name}" [${spec.shape.join(", ")}] from "${term.from}" [${from.join(", ")}]`;
  if (!Number.isFinite(term.scale)) refuse(map, `makes ${what} with the scale ${term.scale}`);
  if (from.length !== spec.shape.length) refuse(map, `makes ${what}: another number of axes`);
  if (term.axes && term.axes.length !== from.length)
    refuse(map, `makes ${what} with ${term.axes.length} axis maps`);
  for (const [axis, length] of from.entries())
    checkAxis(map, what, axis, term.axes?.[axis] ?? null, length, spec.shape[axis]!, checked);
}

function checkAxis(
  map: GrowthMap,
  what: string,
  axis: number,
  axisMap: AxisMap | null,
  from: number,
  to: number,
  checked: CheckedAxes,
): void {
  if (axisMap === null) {
    if (from !== to) refuse(map, `makes ${what}: axis ${axis} is kept, but its length changes`);
    return;
  }
  const entries = axisMap.kind === "index" ? axisMap.indices : axisMap.rows;
  if (entries.length !== to)
    refuse(map, `makes ${what}: the map of axis ${axis} has ${entries.length} entries for a length of ${to}`);
  if (checked.get(axisMap) === from) return;
  if (axisMap.kind === "matrix") {
    for (const [row, values] of axisMap.rows.entries())
      if (values.length !== from || !values.every(Number.isFinite))
        refuse(map, `makes ${what}: row ${row} of the matrix of axis ${axis} is not ${from} finite numbers`);
  } else {
    for (const index of axisMap.indices)
      if (!Number.isInteger(index) || index < 0 || index >= from)
        refuse(map, `makes ${what}: index ${index} of axis ${axis} lies outside of 0..${from - 1}`);
    const { scales } = axisMap;
    if (scales && (scales.length !== to || !scales.every(Number.isFinite)))
      refuse(map, `makes ${what}: the scales of axis ${axis} are not ${to} finite numbers`);
  }
  checked.set(axisMap, from);
}
