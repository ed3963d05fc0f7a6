import { type TrainingBudget, UsageError } from "@espalier/core";
import type { Definition } from "./schema.js";
import type { Locate } from "./schema-errors.js";

/** Tokens of one optimizer step. */
export function tokensPerStep(definition: Definition): number {
  const { batchSize, gradientAccumulation } = definition.training;
  return batchSize * gradientAccumulation * definition.data.sequenceLength;
}

/**
 * The budget of a definition. Tokens are rounded down to whole steps; a budget of FLOPs ends with the step that spends
 * the last of them.
 *
 * @throws UsageError ESPALIER_BUDGET_TOO_SMALL where not even one step fits
 */
export function trainingBudget(definition: Definition, locate: Locate): TrainingBudget {
  const { steps, tokens, flops } = definition.training;
  if (steps !== undefined) return { unit: "steps", amount: steps, steps };
  if (flops !== undefined) return { unit: "flops", amount: flops, steps: null };
  const amount = tokens!;
  const each = tokensPerStep(definition);
  if (amount < each)
    throw new UsageError(
      "ESPALIER_BUDGET_TOO_SMALL",
      `"training.tokens" is ${amount}, but one step takes ${each} tokens (batchSize × gradientAccumulation × sequenceLength)`,
      { file: locate(["training", "tokens"]), key: "training.tokens" },
    );
  const whole = Math.floor(amount / each);
  return { unit: "tokens", amount: whole * each, steps: whole };
}
