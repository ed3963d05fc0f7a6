import {
  canonicalJson,
  type Expander,
  type GrowthMap,
  hashGrowthMap,
  type LayerMapping,
  type ModelFamily,
  type ModelShape,
  type MomentPolicy,
  type ParameterGrowth,
  shapeOf,
  stream,
  type TrainingParameters,
  withMoments,
} from "@espalier/core";
import { applyGrowthMap, checkGrowthMap, disposeParameters } from "@espalier/growth";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect } from "vitest";
import {
  type Checks,
  configOfShape,
  deeplyFrozen,
  runChecks,
  type Skips,
  shapeOfDepth,
  withoutChanceAndTime,
} from "./checks.js";
import { changeOfLogits, perturbedParameters } from "./measure.js";
import { residualFamily } from "./residual-family.js";

/** The checks of {@link describeExpander}. */
export type ExpanderCheck =
  | "every parameter of the target shape is made, at its shape"
  | "the plan is JSON"
  | "the same seed plans the same"
  | "nothing but the input counts"
  | "growth to the same shape changes nothing"
  | "moments follow their source"
  | "the parameters of the result share no memory"
  | "no tensor is left over"
  | "the function is preserved as claimed";

/** A growth to try. What is not given stays that of the suite's small model. */
export interface TriedGrowth {
  readonly from: Partial<ModelShape>;
  readonly to: Partial<ModelShape>;
}

/** Options of {@link describeExpander}. */
export interface ExpanderSuiteOptions {
  /** What to try. Default: depth 1 → 2, 2 → 4, 3 → 6, 3 → 7, 4 → 6. */
  readonly growths?: readonly TriedGrowth[];
  /** The growths at which a claim of preservation holds. Default: depth 1 → 2, 1 → 3, 3 → 6, 6 → 12. */
  readonly preserved?: readonly TriedGrowth[];
  /**
   * How far the logits may move where preservation is claimed: max |before − after|. Default: 0. Copies in depth change no
   * bit; sums over copied units are added in another order.
   */
  readonly tolerance?: number;
  /** The layer mapping of sharing within a step; needed where preservation is claimed for depth. */
  readonly mapping?: LayerMapping;
  /**
   * The policy for moments that the plan must follow. Without it, each moment must come from where its weight comes from,
   * or stay its own, or start empty.
   */
  readonly moments?: MomentPolicy;
  /** Another model than the small one of this package, with `loadEngine`. */
  readonly family?: ModelFamily;
  /** Makes a TensorFlow.js backend current. Default: TensorFlow.js's own `cpu`. */
  readonly loadEngine?: () => Promise<unknown>;
  /** Checks that do not apply, each with its reason. */
  readonly skip?: Skips<ExpanderCheck>;
}

/**
 * Conformance suite of expanders, on a real model with perturbed parameters.
 *
 * @param create makes a fresh expander
 */
export function describeExpander(
  name: string,
  create: () => Expander,
  options: ExpanderSuiteOptions = {},
): void {
  describe(`expander ${name}`, () => {
    beforeAll(async () => {
      await (options.loadEngine ?? cpu)();
    });
    runChecks(expanderChecks(create, options), options.skip);
  });
}

/** The checks that {@link describeExpander} registers, by name: each throws where it fails. A backend must be current. */
export function expanderChecks(
  create: () => Expander,
  options: ExpanderSuiteOptions = {},
): Checks<ExpanderCheck> {
  const family = options.family ?? residualFamily;
  const growths = (options.growths ?? depthGrowths([1, 2], [2, 4], [3, 6], [3, 7], [4, 6])).map(completed);
  const preserved = (options.preserved ?? depthGrowths([1, 2], [1, 3], [3, 6], [6, 12])).map(completed);
  const config = (shape: ModelShape) => configOfShape(shape, family);
  const plan = (from: ModelShape, to: ModelShape, seed = 5): GrowthMap =>
    create().plan(deeplyFrozen(from), deeplyFrozen(to), family, stream(seed).fork("growth"));
  const source = (shape: ModelShape): TrainingParameters =>
    perturbedParameters(family, config(shape), stream(17));
  const apply = (map: GrowthMap, parameters: TrainingParameters): TrainingParameters =>
    applyGrowthMap(map, parameters, { config: config(map.to), family, random: stream(17) });

  return {
    "every parameter of the target shape is made, at its shape": () => {
      for (const { from, to } of growths) {
        const map = plan(from, to);
        expect(shapeOf(map.from)).toEqual(from);
        const specs = checkGrowthMap(map, shapesAt(from), family, config(to));
        const grown = apply(map, source(from));
        expect([...grown.keys()]).toEqual(specs.map((spec) => spec.name));
        for (const spec of specs) {
          const { weight, firstMoment, secondMoment, stepCount } = grown.get(spec.name)!;
          for (const tensor of [weight, firstMoment, secondMoment]) expect(tensor.shape).toEqual(spec.shape);
          expect(stepCount.shape).toEqual([]);
        }
        disposeParameters(grown);
      }
    },
    "the plan is JSON": () => {
      for (const { from, to } of growths) {
        const map = plan(from, to);
        const copy = JSON.parse(JSON.stringify(map)) as GrowthMap;
        expect(copy).toEqual(map);
        expect(hashGrowthMap(copy)).toBe(hashGrowthMap(map));
      }
    },
    "the same seed plans the same": () => {
      for (const { from, to } of growths)
        expect(hashGrowthMap(plan(from, to))).toBe(hashGrowthMap(plan(from, to)));
    },
    "nothing but the input counts": () => {
      for (const { from, to } of growths)
        expect(hashGrowthMap(withoutChanceAndTime(() => plan(from, to)))).toBe(hashGrowthMap(plan(from, to)));
    },
    "growth to the same shape changes nothing": () => {
      for (const { from } of growths) {
        const before = source(from);
        const values = valuesOf(before);
        const after = apply(plan(from, from), before);
        expect(valuesOf(after)).toEqual(values);
        disposeParameters(after);
      }
    },
    "moments follow their source": () => {
      for (const { from, to } of growths) {
        const map = plan(from, to);
        if (options.moments) expectPolicy(map, options.moments, family, new Set(shapesAt(from).keys()));
        else
          for (const [target, growth] of Object.entries(map.parameters)) expectOwnOrWeights(target, growth);
      }
    },
    "the parameters of the result share no memory": () => {
      for (const { from, to } of growths) {
        const grown = apply(plan(from, to), source(from));
        const memories = [...grown.values()].flatMap((state) =>
          tensorsOf(state).map((tensor) => tensor.dataId),
        );
        expect(new Set(memories).size).toBe(4 * grown.size);
        disposeParameters(grown);
      }
    },
    "no tensor is left over": () => {
      for (const { from, to } of growths) {
        const before = tf.memory().numTensors;
        const grown = apply(plan(from, to), source(from));
        expect(tf.memory().numTensors).toBe(before + 4 * grown.size);
        disposeParameters(grown);
        expect(tf.memory().numTensors).toBe(before);
      }
    },
    "the function is preserved as claimed": async () => {
      const claim = create().preserves;
      const changes: number[] = [];
      for (const { from, to } of claim === "function" ? preserved : growths)
        changes.push(
          ...(await changeOfLogits({
            map: plan(from, to),
            family,
            from: config(from),
            to: config(to),
            mapping: options.mapping,
          })),
        );
      expect(changes.every(Number.isFinite)).toBe(true);
      const tolerance = options.tolerance ?? 0;
      if (claim === "function") expect(Math.max(...changes)).toBeLessThanOrEqual(tolerance);
      // A claim of nothing is measured, too: an expander that never changes an output claims too little.
      else expect(Math.max(...changes)).toBeGreaterThan(tolerance);
    },
  };

  function shapesAt(shape: ModelShape): Map<string, readonly number[]> {
    return new Map(family.parameters(config(shape)).map((spec) => [spec.name, spec.shape]));
  }
}

async function cpu(): Promise<void> {
  await tf.setBackend("cpu");
}

function depthGrowths(...pairs: readonly (readonly [number, number])[]): TriedGrowth[] {
  return pairs.map(([from, to]) => ({ from: { depth: from }, to: { depth: to } }));
}

function completed({ from, to }: TriedGrowth): { from: ModelShape; to: ModelShape } {
  return { from: { ...shapeOfDepth(1), ...from }, to: { ...shapeOfDepth(1), ...to } };
}

function tensorsOf(state: {
  weight: tf.Tensor;
  firstMoment: tf.Tensor;
  secondMoment: tf.Tensor;
  stepCount: tf.Tensor;
}): tf.Tensor[] {
  return [state.weight, state.firstMoment, state.secondMoment, state.stepCount];
}

function valuesOf(parameters: TrainingParameters): unknown {
  return [...parameters].map(([name, state]) => [
    name,
    tensorsOf(state).map((tensor) => [...tensor.dataSync()]),
  ]);
}

function expectPolicy(
  map: GrowthMap,
  policy: MomentPolicy,
  family: ModelFamily,
  sourceNames: ReadonlySet<string>,
): void {
  const weights = Object.fromEntries(
    Object.entries(map.parameters).map(([name, { weight }]) => [name, weight]),
  );
  const places = family.layout(map.to.depth);
  const expected = { ...map, parameters: withMoments(weights, policy, sourceNames, places) };
  expect(canonicalJson(JSON.parse(JSON.stringify(map)))).toBe(
    canonicalJson(JSON.parse(JSON.stringify(expected))),
  );
}

function expectOwnOrWeights(target: string, { weight, firstMoment, secondMoment }: ParameterGrowth): void {
  const allowed = new Set([target, ...(weight.kind === "sum" ? weight.terms.map((term) => term.from) : [])]);
  for (const moment of [firstMoment, secondMoment])
    for (const { from } of moment.kind === "sum" ? moment.terms : []) expect(allowed).toContain(from);
}
