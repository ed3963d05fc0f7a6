import {
  type DepthSampler,
  definePlugin,
  type Expander,
  type GrowthMap,
  type GrowthSchedule,
  type Json,
  type LayerMapping,
  type ParameterGrowth,
  planLayers,
  shapeOf,
  strategy,
} from "@espalier/core";
import * as tf from "@tensorflow/tfjs";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { type ExpanderCheck, expanderChecks } from "./expander-suite.js";
import { type LayerMappingCheck, layerMappingChecks } from "./layer-mapping-suite.js";
import { pluginChecks } from "./plugin-suite.js";
import { type SamplerCheck, samplerChecks } from "./sampler-suite.js";
import { type ScheduleCheck, scheduleChecks } from "./schedule-suite.js";

// Strategies with the defects that the released codes of growth methods have had. The suite must find each.

/** The checks that fail, by name. */
async function failing(checks: { readonly [name: string]: () => void | Promise<void> }): Promise<string[]> {
  const failed: string[] = [];
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
    } catch {
      failed.push(name);
    }
  }
  return failed;
}

function evenly(unique: number, depth: number): number[] {
  return Array.from({ length: depth }, (_, layer) => Math.floor((layer * unique) / depth));
}

describe("the suite of samplers finds", () => {
  const uniform: DepthSampler = {
    init: () => null,
    next: (memory, { current, target }, random) => [
      { executedLayers: current.depth + random.integer(target.depth - current.depth + 1), update: "all" },
      memory,
    ],
    distribution(_memory, { current, target }) {
      const count = target.depth - current.depth + 1;
      return new Map(Array.from({ length: count }, (_, more) => [current.depth + more, 1 / count]));
    },
  };

  it("nothing wrong with one that is right", async () => {
    expect(await failing(samplerChecks(() => uniform))).toEqual([]);
  });

  it.each<[string, () => DepthSampler<Json>, SamplerCheck]>([
    [
      "chance of its own",
      () => ({
        ...uniform,
        next: (memory, { current }) => [
          { executedLayers: current.depth + (Math.random() < 0.5 ? 0 : 1), update: "all" },
          memory,
        ],
      }),
      "nothing but the input counts",
    ],
    [
      "a distribution that its samples do not follow",
      () => ({
        ...uniform,
        distribution: (_memory, { current }) =>
          new Map([
            [current.depth, 0.9],
            [current.depth + 1, 0.1],
          ]),
      }),
      "samples follow the distribution",
    ],
    [
      "a distribution that sums to another number",
      () => ({ ...uniform, distribution: (_memory, { current }) => new Map([[current.depth, 0.9]]) }),
      "the distribution sums to 1",
    ],
    [
      "depths beyond the target",
      () => ({
        ...uniform,
        next: (memory, { target }) => [{ executedLayers: target.depth + 1, update: "all" }, memory],
        distribution: (_memory, { target }) => new Map([[target.depth + 1, 1]]),
      }),
      "every depth lies between the unique layers and the target",
    ],
    [
      "a hidden counter, which a resume would start again",
      () => {
        let calls = 0;
        return {
          ...uniform,
          next: (memory, { current, target }) => [
            { executedLayers: calls++ % 2 ? current.depth : target.depth, update: "all" },
            memory,
          ],
        };
      },
      "a run resumed from JSON memory draws the same depths",
    ],
    [
      "updates of more layers than run",
      () => ({
        ...uniform,
        next: (memory, { current }) => [{ executedLayers: current.depth, update: { topLayers: 99 } }, memory],
      }),
      "updates name layers that are executed",
    ],
  ])("%s", async (_what, create, check) => {
    expect(await failing(samplerChecks(create))).toContain(check);
  });
});

describe("the suite of schedules finds", () => {
  const half: GrowthSchedule = {
    init: () => null,
    initial: (target) => ({ ...shapeOf(target), depth: 3 }),
    plan: (budget, target) => [
      {
        index: 0,
        shape: { ...shapeOf(target), depth: 3 },
        at: 0,
        firstStep: budget.steps === null ? null : 0,
      },
      {
        index: 1,
        shape: shapeOf(target),
        at: 0.5,
        firstStep: budget.steps === null ? null : budget.steps / 2,
      },
    ],
    next: (memory, { progress, current, target }) => [
      progress.fraction >= 0.5 && current.depth < target.depth ? shapeOf(target) : null,
      memory,
    ],
  };

  it("nothing wrong with one that is right", async () => {
    expect(await failing(scheduleChecks(() => half))).toEqual([]);
  });

  it.each<[string, () => GrowthSchedule<Json>, ScheduleCheck]>([
    [
      "growth after the data ends",
      () => ({
        ...half,
        next: (memory, { progress, target }) => [progress.step === 205 ? shapeOf(target) : null, memory],
      }),
      "nothing grows after the end",
    ],
    [
      "growth that never comes",
      () => ({ ...half, next: (memory) => [null, memory] }),
      "the target is reached before the end",
    ],
    [
      "growth elsewhere than planned",
      () => ({
        ...half,
        next: (memory, { progress, current, target }) => [
          progress.fraction >= 0.6 && current.depth < target.depth ? shapeOf(target) : null,
          memory,
        ],
      }),
      "growth happens where it was planned",
    ],
    [
      "a start that is made shallower",
      () => ({
        ...half,
        next: (memory, { progress, current, target }) => [
          progress.step === 0 && current.depth > 3
            ? { ...shapeOf(target), depth: 3 }
            : progress.fraction >= 0.5 && current.depth < target.depth
              ? shapeOf(target)
              : null,
          memory,
        ],
      }),
      "a deeper start does not shrink",
    ],
    [
      "growth again after a resume",
      () => {
        let grown = false;
        return {
          ...half,
          next: (memory, { progress, current, target }) => {
            if (grown || progress.fraction < 0.5) return [null, memory];
            grown = true;
            return [{ ...shapeOf(target), depth: Math.min(target.depth, current.depth + 5) }, memory];
          },
        };
      },
      "a run resumed from JSON memory grows at the same steps",
    ],
    [
      "a stage without steps",
      () => ({
        ...half,
        plan: (budget, target) => [
          {
            index: 0,
            shape: { ...shapeOf(target), depth: 3 },
            at: 0,
            firstStep: budget.steps === null ? null : 0,
          },
          { index: 1, shape: shapeOf(target), at: 0.001, firstStep: budget.steps === null ? null : 0 },
        ],
      }),
      "every planned stage has a step",
    ],
    [
      "an end elsewhere than at the target",
      () => ({
        ...half,
        plan: (budget, target) => [
          {
            index: 0,
            shape: { ...shapeOf(target), depth: 3 },
            at: 0,
            firstStep: budget.steps === null ? null : 0,
          },
        ],
      }),
      "the planned stages ascend and end at the target",
    ],
    [
      "a look at the clock",
      () => ({
        ...half,
        next: (memory, input, random) =>
          Date.now() > 0 ? half.next(memory as null, input, random) : [null, memory],
      }),
      "nothing but the input counts",
    ],
  ])("%s", async (_what, create, check) => {
    expect(await failing(scheduleChecks(create))).toContain(check);
  });
});

describe("the suite of layer mappings finds", () => {
  it("nothing wrong with one that is right", async () => {
    expect(await failing(layerMappingChecks(() => evenly))).toEqual([]);
  });

  it.each<[string, LayerMapping, LayerMappingCheck]>([
    [
      "layers that are not there",
      (_unique, depth) => Array.from({ length: depth }, (_, layer) => layer),
      "every executed layer names a unique layer",
    ],
    [
      "layers that never run",
      (_unique, depth) => new Array<number>(depth).fill(0),
      "every unique layer is executed",
    ],
    [
      "layers in another order",
      (unique, depth) => [...evenly(unique, depth)].reverse(),
      "all layers run once, in order, at their own depth",
    ],
    [
      "chance of its own",
      (unique, depth) => Array.from({ length: depth }, () => Math.floor(Math.random() * unique)),
      "nothing but the input counts",
    ],
  ])("%s", async (_what, mapping, check) => {
    expect(await failing(layerMappingChecks(() => mapping))).toContain(check);
  });
});

describe("the suite of expanders finds", () => {
  beforeAll(async () => {
    await tf.setBackend("cpu");
  });

  const copying: Expander = {
    preserves: "function",
    layerMapping: "interpolation",
    plan(from, to, family) {
      const layerMap = evenly(from.depth, to.depth);
      return planLayers({
        expander: "copying",
        from,
        to,
        family,
        moments: "carry",
        layerMap,
        layerSource: (layer) => [[layerMap[layer]!, 1]],
      });
    },
  };
  const changed = (
    change: (name: string, growth: ParameterGrowth, map: GrowthMap) => ParameterGrowth,
  ): Expander => ({
    ...copying,
    plan(from, to, family, random) {
      const map = copying.plan(from, to, family, random);
      const parameters = Object.entries(map.parameters).map(([name, growth]) => [
        name,
        change(name, growth, map),
      ]);
      return { ...map, parameters: Object.fromEntries(parameters) as GrowthMap["parameters"] };
    },
  });
  const growths = [{ from: { depth: 2 }, to: { depth: 4 } }];
  const options = { mapping: evenly, growths, preserved: growths } as const;

  it("nothing wrong with one that is right", async () => {
    expect(await failing(expanderChecks(() => copying, { ...options, moments: "carry" }))).toEqual([]);
  });

  it("moments on the wrong layer", async () => {
    // Layer 3 is made from layer 1, but gets the moments of layer 0.
    const stale = changed((name, growth) =>
      name.startsWith("layers.3.")
        ? {
            ...growth,
            firstMoment: { kind: "sum", terms: [{ from: name.replace("layers.3.", "layers.0."), scale: 1 }] },
          }
        : growth,
    );
    expect(await failing(expanderChecks(() => stale, options))).toContain(
      "moments follow their source" satisfies ExpanderCheck,
    );
  });

  it("moments that follow another policy than was said", async () => {
    expect(await failing(expanderChecks(() => copying, { ...options, moments: "upstream" }))).toEqual([
      "moments follow their source",
    ] satisfies ExpanderCheck[]);
  });

  it("parameters that are missing, which no optimizer would reach", async () => {
    const lacking: Expander = {
      ...copying,
      plan(from, to, family, random) {
        const map = copying.plan(from, to, family, random);
        return {
          ...map,
          parameters: Object.fromEntries(
            Object.entries(map.parameters).filter(([name]) => name !== "layers.3.up.bias"),
          ),
        };
      },
    };
    expect(await failing(expanderChecks(() => lacking, options))).toContain(
      "every parameter of the target shape is made, at its shape" satisfies ExpanderCheck,
    );
  });

  it("a claim of preservation that does not hold", async () => {
    const scaled = changed((name, growth) =>
      name === "head.bias"
        ? { ...growth, weight: { kind: "sum", terms: [{ from: name, scale: 1.0001 }] } }
        : growth,
    );
    expect(await failing(expanderChecks(() => scaled, options))).toEqual([
      "growth to the same shape changes nothing",
      "the function is preserved as claimed",
    ] satisfies ExpanderCheck[]);
  });

  it("a claim of nothing where the function is preserved", async () => {
    const modest: Expander = { ...copying, preserves: "nothing" };
    expect(await failing(expanderChecks(() => modest, options))).toEqual([
      "the function is preserved as claimed",
    ] satisfies ExpanderCheck[]);
  });

  it("chance of its own, and plans that are no JSON", async () => {
    const random = changed((_name, growth) => ({
      ...growth,
      weight: { kind: "sum", terms: [{ from: "head.bias", scale: Math.random() }] },
    }));
    const failed = await failing(expanderChecks(() => random, options));
    expect(failed).toContain("the same seed plans the same" satisfies ExpanderCheck);
    expect(failed).toContain("nothing but the input counts" satisfies ExpanderCheck);
    const infinite = changed((name, growth) =>
      name === "head.bias"
        ? { ...growth, weight: { kind: "sum", terms: [{ from: name, scale: Number.POSITIVE_INFINITY }] } }
        : growth,
    );
    expect(await failing(expanderChecks(() => infinite, options))).toContain(
      "the plan is JSON" satisfies ExpanderCheck,
    );
  });
});

describe("the suite of plugins finds", () => {
  const loose = strategy({
    kind: "layerMapping",
    name: "loose",
    description: "takes any option",
    options: z.object({ size: z.number().default(1) }),
    needs: [],
    create: () => (_unique, depth) => new Array<number>(depth).fill(0),
  });

  it("options that are not strict, defaults that are refused, descriptions that are empty", async () => {
    const declare = (changes: Partial<typeof loose>) =>
      definePlugin({ name: "p", contract: 1, strategies: [{ ...loose, ...changes }] });
    expect(await failing(pluginChecks(declare({})))).toEqual(["an unknown option is refused"]);
    expect(await failing(pluginChecks(declare({ options: z.strictObject({}) })))).toEqual([]);
    expect(await failing(pluginChecks(declare({ options: z.strictObject({ size: z.number() }) })))).toEqual([
      "the options' defaults are valid",
      "every strategy can be made",
    ]);
    expect(await failing(pluginChecks(declare({ options: z.strictObject({}), description: " " })))).toEqual([
      "it is declared in full",
    ]);
  });

  it("presets that are no growth section, or give their own strategy wrong options", async () => {
    const declare = (growth: { [key: string]: Json }) =>
      definePlugin({
        name: "p",
        contract: 1,
        strategies: [{ ...loose, kind: "layerMapping", options: z.strictObject({}) }],
        presets: [{ name: "x", description: "x", growth: () => growth }],
      });
    expect(await failing(pluginChecks(declare({ sampler: "unique" })))).toEqual([]);
    expect(await failing(pluginChecks(declare({ samplers: "unique" })))).toEqual([
      "presets are the growth section of a definition",
    ]);
  });
});
