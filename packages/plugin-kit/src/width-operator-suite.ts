import { type Expander, type ModelShape, stream, UsageError, type WidthOperator } from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect } from "vitest";
import { type Checks, runChecks, type Skips, shapeOfDepth } from "./checks.js";
import {
  type ExpanderCheck,
  type ExpanderSuiteOptions,
  expanderChecks,
  type TriedGrowth,
} from "./expander-suite.js";
import { residualFamily } from "./residual-family.js";

/** The checks of {@link describeWidthOperator}: those of an expander, and what width adds. */
export type WidthOperatorCheck =
  | ExpanderCheck
  | "a narrower target is refused"
  | "heads of another size are refused";

/** Options of {@link describeWidthOperator}. */
export interface WidthOperatorSuiteOptions
  extends Pick<ExpanderSuiteOptions, "moments" | "family" | "loadEngine"> {
  /** Checks that do not apply, each with its reason. */
  readonly skip?: Skips<WidthOperatorCheck>;
}

const source = { depth: 2, hiddenSize: 8, attentionHeads: 2, intermediateSize: 16 };

/** Growths in width of a model of two layers: of everything, of the feed-forward part alone, by whole multiples and not. */
export const widthGrowths: {
  /** Every unit can be copied equally often. */
  readonly whole: readonly TriedGrowth[];
  readonly uneven: readonly TriedGrowth[];
} = {
  whole: [
    { from: source, to: { ...source, hiddenSize: 16, attentionHeads: 4, intermediateSize: 32 } },
    { from: source, to: { ...source, hiddenSize: 24, attentionHeads: 6, intermediateSize: 32 } },
    { from: source, to: { ...source, intermediateSize: 48 } },
  ],
  uneven: [
    { from: source, to: { ...source, hiddenSize: 12, attentionHeads: 3, intermediateSize: 24 } },
    { from: source, to: { ...source, hiddenSize: 20, attentionHeads: 5, intermediateSize: 40 } },
    { from: source, to: { ...source, intermediateSize: 20 } },
  ],
};

/**
 * Conformance suite of width operators, on a real model with perturbed parameters. A claim of preservation is measured
 * where every unit can be copied equally often, to 1e-5.
 *
 * @param create makes a fresh operator
 */
export function describeWidthOperator(
  name: string,
  create: () => WidthOperator,
  options: WidthOperatorSuiteOptions = {},
): void {
  describe(`width operator ${name}`, () => {
    beforeAll(async () => {
      if (options.loadEngine) await options.loadEngine();
      else await tf.setBackend("cpu");
    });
    runChecks(widthOperatorChecks(create, options), options.skip);
  });
}

/** The checks that {@link describeWidthOperator} registers, by name: each throws where it fails. */
export function widthOperatorChecks(
  create: () => WidthOperator,
  options: WidthOperatorSuiteOptions = {},
): Checks<WidthOperatorCheck> {
  const asExpander = (): Expander => {
    const operator = create();
    return {
      preserves: operator.preserves,
      layerMapping: "identity",
      plan: (from, to, family, random) => operator.plan(from, to, family, random),
    };
  };
  const refuses = (to: Partial<ModelShape>): void => {
    const family = options.family ?? residualFamily;
    const from: ModelShape = { ...shapeOfDepth(2), ...source };
    expect(() => create().plan(from, { ...from, ...to }, family, stream(5))).toThrow(UsageError);
  };
  return {
    ...expanderChecks(asExpander, {
      ...options,
      growths: [...widthGrowths.whole, ...widthGrowths.uneven],
      preserved: widthGrowths.whole,
      tolerance: 1e-5,
    }),
    "a narrower target is refused": () => {
      refuses({ hiddenSize: 4, attentionHeads: 1 });
      refuses({ intermediateSize: 8 });
    },
    "heads of another size are refused": () => {
      refuses({ hiddenSize: 16 });
      refuses({ attentionHeads: 4 });
    },
  };
}
