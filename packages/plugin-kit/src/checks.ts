import { type ModelConfig, type ModelFamily, type ModelShape, type Progress, suggest } from "@espalier/core";
import { it } from "vitest";
import { residualFamily } from "./residual-family.js";

/** Checks that a plugin does not have to pass, each with its reason, which the test report shows. */
export type Skips<Check extends string> = { readonly [Name in Check]?: string };

/** Checks by name; one that fails throws. */
export type Checks<Check extends string> = { readonly [Name in Check]: () => void | Promise<void> };

/** Registers checks as tests; a skipped one says why. */
export function runChecks<Check extends string>(checks: Checks<Check>, skips: Skips<Check> = {}): void {
  const names = Object.keys(checks) as Check[];
  for (const [name, reason] of Object.entries(skips)) {
    if (!names.some((known) => known === name))
      throw new Error(`there is no check "${name}" to skip; ${suggest(name, names)}`);
    if (typeof reason !== "string" || reason.trim() === "")
      throw new Error(`the check "${name}" is skipped without a reason`);
  }
  for (const name of names) {
    const reason = skips[name];
    if (reason === undefined) it(name, checks[name]);
    else it.skip(`${name} (skipped: ${reason})`, checks[name]);
  }
}

/** Freezes an object and all that it holds, so that writing to it throws. */
export function deeplyFrozen<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const held of Object.values(value)) deeplyFrozen(held);
  }
  return value;
}

/** Runs something synchronous in a world without chance and without time: reading either throws. */
export function withoutChanceAndTime<T>(run: () => T): T {
  const { random } = Math;
  const { now } = Date;
  const performanceNow = performance.now;
  const refused = (what: string) => (): never => {
    throw new Error(`${what} was called: chance comes from the given stream, time from the given progress`);
  };
  Math.random = refused("Math.random");
  Date.now = refused("Date.now");
  performance.now = refused("performance.now");
  try {
    return run();
  } finally {
    Math.random = random;
    Date.now = now;
    performance.now = performanceNow;
  }
}

/** A small model shape of the given depth. */
export function shapeOfDepth(depth: number): ModelShape {
  return { depth, hiddenSize: 8, attentionHeads: 2, intermediateSize: 16 };
}

/** The config of a small model of the given shape, without dropout. */
export function configOfShape(shape: ModelShape, family: ModelFamily = residualFamily): ModelConfig {
  return {
    ...shape,
    family: family.name,
    vocabSize: 11,
    maxPositions: 8,
    dropout: 0,
    initializerRange: 0.3,
    ...family.defaults,
  };
}

/** Progress after `step` of `steps` steps of 1 024 tokens. */
export function progressAt(step: number, steps: number, stage = 0): Progress {
  return {
    step,
    tokens: step * 1024,
    flops: step * 1e9,
    stage,
    fraction: Math.min(1, step / steps),
    evaluationLoss: null,
  };
}
