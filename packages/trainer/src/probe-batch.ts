import { type ModelConfig, type ModelFamily, UsageError } from "@espalier/core";
import { z } from "zod";

/** A batch given from outside, in Hugging Face's terms. Rows are equally long. */
export interface ProbeBatch {
  /** `[batch][seq]` */
  readonly inputIds: readonly (readonly number[])[];
  /** 1 for a real token, 0 for padding. `[batch][seq]` */
  readonly attentionMask: readonly (readonly number[])[] | null;
  /** -100 does not count; causal models shift. `[batch][seq]` */
  readonly labels: readonly (readonly number[])[];
}

const rows = z.array(z.array(z.int()).min(1)).min(1);
const schema = z.strictObject({
  input_ids: rows,
  attention_mask: z.array(z.array(z.literal([0, 1]))).optional(),
  token_type_ids: z.array(z.array(z.literal(0))).optional(),
  labels: rows,
});

/** The label that does not count. */
export const ignoredLabel = -100;

/**
 * Checks a batch file's content against a model.
 *
 * @param file named in messages
 * @throws UsageError ESPALIER_BATCH_INVALID naming file, key, expected and given
 */
export function parseProbeBatch(
  json: unknown,
  file: string,
  family: ModelFamily,
  config: ModelConfig,
): ProbeBatch {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw refuse(file, issue.path.join(".") || "the file", describeIssue(issue));
  }
  const { input_ids: inputIds, attention_mask: attentionMask = null, labels } = parsed.data;
  const batch = inputIds.length;
  const length = inputIds[0]!.length;
  for (const [key, value] of Object.entries(parsed.data))
    if (value.length !== batch || value.some((row) => row.length !== length))
      throw refuse(
        file,
        key,
        `must have ${batch} rows of ${length} numbers, as input_ids has in its first row`,
      );
  if (length > config.maxPositions)
    throw refuse(file, "input_ids", `has ${length} positions, but the model has ${config.maxPositions}`);
  for (const [row, tokens] of inputIds.entries())
    for (const [column, token] of tokens.entries())
      if (token < 0 || token >= config.vocabSize)
        throw refuse(
          file,
          `input_ids.${row}.${column}`,
          `is ${token}, but the vocabulary is 0 to ${config.vocabSize - 1}`,
        );
  for (const [row, wanted] of labels.entries())
    for (const [column, label] of wanted.entries())
      if (label !== ignoredLabel && (label < 0 || label >= config.vocabSize))
        throw refuse(
          file,
          `labels.${row}.${column}`,
          `is ${label}, but must be ${ignoredLabel} or 0 to ${config.vocabSize - 1}`,
        );
  const probe = { inputIds, attentionMask, labels };
  if (countedLabels(probe, family.causal).labels.length === 0)
    throw refuse(
      file,
      "labels",
      `have no position that counts${family.causal ? " (the first of a row has none before it)" : ""}`,
    );
  return probe;
}

/** Which positions count, and what is wanted there: a causal model's position t predicts label t + 1. */
export function countedLabels(
  { labels }: ProbeBatch,
  causal: boolean,
): { readonly positions: Int32Array; readonly labels: Int32Array } {
  const positions: number[] = [];
  const counted: number[] = [];
  for (const [row, wanted] of labels.entries())
    for (const [column, label] of wanted.entries()) {
      const position = causal ? column - 1 : column;
      if (label === ignoredLabel || position < 0) continue;
      positions.push(row * wanted.length + position);
      counted.push(label);
    }
  return { positions: Int32Array.from(positions), labels: Int32Array.from(counted) };
}

function describeIssue(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return "must be there and in its place: input_ids and labels are lists of rows of whole numbers";
    case "too_small":
      return issue.path.length === 1
        ? "is empty: it needs at least one row"
        : "is empty: a row needs at least one number";
    case "invalid_value":
      return `must be ${issue.values.join(" or ")}`;
    case "unrecognized_keys":
      return `has keys that a batch does not have (${issue.keys.join(", ")}); it has ${Object.keys(schema.shape).join(", ")}`;
    default:
      return issue.message;
  }
}

function refuse(file: string, key: string, what: string): UsageError {
  return new UsageError("ESPALIER_BATCH_INVALID", `${file}: ${key} ${what}`, { file, key });
}
