import { describe, expect, it } from "vitest";
import { z } from "zod";
import { EspalierError } from "./errors.js";
import { definePlugin, strategy } from "./plugin.js";
import type { DepthSampler } from "./strategy.js";

const fixed = (depth: number): DepthSampler => ({
  init: () => null,
  next: (memory) => [{ executedLayers: depth, update: "all" }, memory],
  distribution: () => new Map([[depth, 1]]),
});

const declaration = strategy({
  kind: "sampler",
  name: "of-target",
  description: "a share of the target",
  options: z.strictObject({ share: z.number().default(0.5) }),
  needs: ["target"],
  create: ({ share }, { target }) => fixed(Math.round(share * target.depth)),
});

const target = { depth: 12, hiddenSize: 8, attentionHeads: 2, intermediateSize: 8 };

describe("strategy", () => {
  it("makes its strategy from validated options and the services that it named", () => {
    const sampler = declaration.create(declaration.options.parse({}), { target });
    const progress = { step: 0, tokens: 0, flops: 0, stage: 0, fraction: 0, evaluationLoss: null };
    expect(sampler.distribution(null, { progress, current: target, target }).get(6)).toBe(1);
    expect(declaration.options.safeParse({ shares: 1 }).success).toBe(false);
  });

  it("refuses to be made without a service that it needs", () => {
    expect(() => declaration.create({ share: 1 }, {})).toThrow(EspalierError);
    expect(() => declaration.create({ share: 1 }, {})).toThrow(
      'sampler "of-target" needs the service "target", which is not available here',
    );
  });
});

describe("definePlugin", () => {
  it("fills in what is left out", () => {
    expect(definePlugin({ name: "p", contract: 1 })).toEqual({
      name: "p",
      contract: 1,
      strategies: [],
      presets: [],
    });
  });

  it("refuses two strategies or presets of one name", () => {
    expect(() => definePlugin({ name: "p", contract: 1, strategies: [declaration, declaration] })).toThrow(
      'plugin "p" declares sampler "of-target" twice',
    );
    const preset = { name: "x", description: "x", growth: () => ({}) };
    expect(() => definePlugin({ name: "p", contract: 1, presets: [preset, preset] })).toThrow(
      'plugin "p" declares preset "x" twice',
    );
    // The same name for another kind is another strategy.
    const mapping = strategy({
      kind: "layerMapping",
      name: "of-target",
      description: "the first layer throughout",
      options: z.strictObject({}),
      needs: [],
      create: () => (_unique, depth) => new Array<number>(depth).fill(0),
    });
    expect(() => definePlugin({ name: "p", contract: 1, strategies: [declaration, mapping] })).not.toThrow();
  });
});
