import { z } from "zod";

/**
 * The one schema of an experiment's definition. Defaults stand here and nowhere else; the JSON Schema for editors and
 * the errors about wrong keys and types are derived from it.
 */

/** What a message says is expected where a schema alone would say "invalid input" (unions). */
export const expectations = z.registry<{ readonly expected: string }>();

const positiveInteger = z.int().min(1);
const share = z.number().min(0).max(1);

/** A strategy by its name alone, or with its options beside `use`. */
export const strategyReference = z
  .union([z.string().min(1), z.looseObject({ use: z.string().min(1).optional() })])
  .register(expectations, { expected: "a strategy's name, or { use: name, …its options }" });

const model = z.strictObject({
  family: z.string().min(1).describe("A model family: bert, gpt2, or one that a plugin brings."),
  depth: positiveInteger.describe("Layers of the target model."),
  hiddenSize: positiveInteger.describe("Width of the residual stream."),
  attentionHeads: positiveInteger.describe("Attention heads; divides hiddenSize."),
  intermediateSize: positiveInteger
    .optional()
    .describe("Width of the feed-forward part. Default: 4 · hiddenSize."),
  dropout: z
    .number()
    .min(0)
    .lt(1)
    .default(0.1)
    .describe("Dropout of embeddings, attention probabilities and residual branches."),
  maxPositions: positiveInteger
    .optional()
    .describe("Learned positions. Default: those of the start checkpoint, else data.sequenceLength."),
  layerNormEpsilon: z.number().positive().optional().describe("Default: the family's own."),
  initializerRange: z.number().positive().default(0.02).describe("Deviation of the initial weights."),
});

const tokenizer = z
  .discriminatedUnion("kind", [
    z.strictObject({
      kind: z.literal("bpe").describe("Byte-level byte-pair encoding, trained on the corpus."),
      vocabSize: positiveInteger.describe("Size of the vocabulary, special tokens included."),
    }),
    z.strictObject({
      kind: z.literal("wordpiece").describe("WordPiece, trained on the corpus."),
      vocabSize: positiveInteger.describe("Size of the vocabulary, special tokens included."),
    }),
    z.strictObject({
      kind: z.literal("file").describe("A tokenizer that exists."),
      path: z.string().min(1).describe("A Hugging Face tokenizer.json, or a folder with one."),
    }),
  ])
  .register(expectations, {
    expected:
      "{ kind: bpe, vocabSize: 4096 }, { kind: wordpiece, vocabSize: 4096 } or { kind: file, path: tokenizer.json }",
  });

const data = z.strictObject({
  corpus: strategyReference.describe("Text to train on: sotu, text, jsonl, huggingface."),
  tokenizer: tokenizer.describe("How text becomes tokens."),
  sequenceLength: positiveInteger.default(128).describe("Tokens of a packed sequence."),
  validationShare: share.gt(0).lt(1).default(0.05).describe("Share of the documents held out, by hash."),
});

const growth = z.strictObject({
  preset: z
    .string()
    .min(1)
    .optional()
    .describe("A method as a combination of strategies; the keys below override its own."),
  schedule: strategyReference
    .optional()
    .describe("When the model grows, and to what shape. Default without a preset: scratch."),
  sampler: strategyReference
    .optional()
    .describe("How deep the network of a micro-step is. Default without a preset: unique."),
  expander: strategyReference
    .optional()
    .describe("How new parameters come from old ones. Default without a preset: interpolation."),
  sharing: strategyReference
    .optional()
    .describe("Layer mapping within a step. Default: the one that the expander uses."),
});

const training = z.strictObject({
  steps: positiveInteger.optional().describe("The budget in optimizer steps."),
  tokens: positiveInteger.optional().describe("The budget in tokens."),
  flops: z.number().positive().optional().describe("The budget in floating-point operations."),
  batchSize: positiveInteger.default(16).describe("Sequences in a micro-step."),
  gradientAccumulation: positiveInteger.default(1).describe("Micro-steps in an optimizer step."),
  precision: z
    .enum(["fp32", "bf16"])
    .default("fp32")
    .describe(
      "What linear layers and attention compute in; weights, moments, layer norm and softmax statistics are float32 either way. bf16 takes the libtorch engine.",
    ),
  recompute: z
    .boolean()
    .default(false)
    .describe(
      "Each layer keeps only its input and runs its forward pass again in the backward pass: less memory for long sequences, about a third more time, the same losses to the bit. The second run is not counted in FLOPs.",
    ),
  optimizer: strategyReference.default("adamw"),
  schedule: strategyReference.default("cosine").describe("Learning-rate schedule."),
  gradientClipNorm: z
    .union([z.number().positive(), z.literal("none")])
    .default(1)
    .register(expectations, { expected: "a positive number, or none" })
    .describe("Gradients are scaled to at most this global norm."),
});

/** The keys of which a definition has exactly one. */
export const budgetUnits = ["steps", "tokens", "flops"] as const;

const countOrAuto = z
  .union([z.literal("auto"), positiveInteger])
  .register(expectations, { expected: "a whole number of at least 1, or auto" });

/** An experiment's definition. */
export const definitionSchema = z.strictObject({
  $schema: z.string().optional().describe("The JSON Schema, for editors; not read."),
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/)
    .register(expectations, { expected: "a name of letters, digits, dots, dashes and underscores" })
    .describe("Names the run and its folder."),
  seed: z.int().min(0).max(0xffffffff).default(42).describe("All randomness comes from it."),
  plugins: z
    .array(z.string().min(1))
    .default([])
    .describe("Plugins by package name or path, beside those found among the dependencies."),
  model,
  start: z
    .union([z.string().min(1), z.looseObject({})])
    .default("none")
    .register(expectations, { expected: "none, the path of a checkpoint, or a definition" })
    .describe("none, a checkpoint (run, step or Hugging Face folder), or a nested definition."),
  data,
  objective: strategyReference
    .optional()
    .describe("masked-lm or causal-lm. Default: the one that the family is made for."),
  growth: growth.default({}),
  training: training
    .superRefine((value, context) => {
      const given = budgetUnits.filter((unit) => value[unit] !== undefined);
      if (given.length !== 1)
        context.addIssue({
          code: "custom",
          path: given.length > 1 ? [given[1]!] : [],
          message: `exactly one of ${budgetUnits.join(", ")} is the budget, but ${given.length === 0 ? "there is none" : `there are ${given.join(" and ")}`}`,
        });
    })
    .describe("Exactly one of steps, tokens and flops is the budget."),
  evaluation: z
    .strictObject({
      every: positiveInteger.default(100).describe("Optimizer steps between evaluations."),
      batches: positiveInteger.default(20).describe("Micro-batches of held-out text in an evaluation."),
    })
    .prefault({}),
  checkpoints: z
    .strictObject({
      every: positiveInteger.default(500).describe("Optimizer steps between checkpoints."),
      keep: positiveInteger.default(2).describe("How many stay; the last step is always kept."),
    })
    .prefault({}),
  tracking: z
    .strictObject({
      uri: z
        .string()
        .min(1)
        .default("auto")
        .describe("An MLflow server; auto: MLFLOW_TRACKING_URI; none: only the run's own journal."),
      experiment: z
        .string()
        .regex(/\S/, "must not be empty")
        .max(500)
        .optional()
        .describe("Default: the definition's name."),
      checkpoints: z
        .enum(["none", "last", "all"])
        .default("last")
        .describe("Which checkpoints the server gets as artifacts."),
    })
    .prefault({}),
  backend: z.string().min(1).default("auto").describe("auto, libtorch, tensorflow, wasm or webgpu."),
  device: z.string().min(1).default("auto").describe("auto, cpu, cuda:0."),
  deterministic: z
    .boolean()
    .default(false)
    .describe("On a GPU: only algorithms that give the same losses to the bit. A CPU's always do."),
  threads: countOrAuto.default("auto"),
});

/** A definition as its author writes it: what has a default may be left out. */
export type DefinitionInput = z.input<typeof definitionSchema>;

/** A definition with every default in place. */
export type Definition = z.output<typeof definitionSchema>;

/** A strategy as a definition names it. */
export type StrategyReference = z.output<typeof strategyReference>;

/** The keys that must be growth's, in a definition as in a preset. */
export const growthSchema = growth;

/** The JSON Schema (draft 2020-12) that editors use for completion. */
export function definitionJsonSchema(): object {
  return {
    ...z.toJSONSchema(definitionSchema, { io: "input", target: "draft-2020-12" }),
    title: "Espalier experiment definition",
  };
}

/**
 * Types a definition that is written in TypeScript; returns it unchanged.
 *
 * @example
 * export default defineExperiment({ name: "tiny", model: { family: "gpt2", … }, … });
 */
export function defineExperiment(definition: DefinitionInput): DefinitionInput {
  return definition;
}
