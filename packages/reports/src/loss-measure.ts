import { canonicalJson } from "@espalier/core";
import { z } from "zod";

const choice = z.record(z.string(), z.json()).or(z.string());

/** What of a run's lock says which loss it measures; what an older lock lacks is undefined. */
export const lockedMeasure = z.object({
  definition: z
    .object({
      objective: choice.optional(),
      data: z
        .object({
          corpus: choice.optional(),
          validationShare: z.number().optional(),
          sequenceLength: z.number().optional(),
        })
        .optional(),
    })
    .optional()
    .catch(undefined),
  data: z
    .object({
      fingerprint: z.string().optional(),
      tokenizerHash: z.string().optional(),
      vocabSize: z.number().optional(),
    })
    .optional()
    .catch(undefined),
});

/** Which loss a run's evaluations measure: of what, in which tokens, on which text. */
export interface LossMeasure {
  /** The objective with its options. */
  readonly objective?: Choice | undefined;
  readonly tokenizerHash?: string | undefined;
  readonly vocabSize?: number | undefined;
  readonly corpus?: Choice | undefined;
  readonly validationShare?: number | undefined;
  readonly sequenceLength?: number | undefined;
  /** Hash of the packed sequences. */
  readonly fingerprint?: string | undefined;
}

type Choice = z.infer<typeof choice>;

/** The measure that a lock describes. */
export function measureOf({ definition, data }: z.infer<typeof lockedMeasure>): LossMeasure {
  const { corpus, validationShare, sequenceLength } = definition?.data ?? {};
  return { objective: definition?.objective, ...data, corpus, validationShare, sequenceLength };
}

/**
 * Why a run's losses cannot be set against a baseline's; null where they can, or the locks do not say.
 *
 * A loss is nats for each predicted token of a held-out text, so objective, tokens and text must be the same. Shape,
 * training, batch size and sequence length may differ: they decide how well the same tokens are predicted (a longer
 * sequence gives more to predict from), and how many of them an evaluation takes. The corpus is compared as it is written
 * in the definitions, unless the packed sequences are the same: one text by two names counts as two where the sequence
 * lengths differ.
 */
export function whyIncomparable(run: LossMeasure, baseline: LossMeasure): string | null {
  const differences: string[] = [];
  const differ = (what: string, ours?: string, theirs?: string): void => {
    if (ours !== undefined && theirs !== undefined && ours !== theirs)
      differences.push(`${what} ${ours} against ${theirs}`);
  };
  differ("objective", ...choices(run.objective, baseline.objective));
  differ("vocabulary", formatVocabulary(run, baseline), formatVocabulary(baseline, run));
  if (run.fingerprint === undefined || run.fingerprint !== baseline.fingerprint) {
    const before = differences.length;
    differ("corpus", ...choices(run.corpus, baseline.corpus));
    differ("held-out share", run.validationShare?.toString(), baseline.validationShare?.toString());
    // Nothing else is left that could make other sequences of the same text.
    if (before === 0 && differences.length === 0 && isSameLength(run, baseline))
      differ("text", short(run.fingerprint), short(baseline.fingerprint));
  }
  return differences.length === 0 ? null : differences.join(", ");
}

function isSameLength(run: LossMeasure, baseline: LossMeasure): boolean {
  return run.sequenceLength !== undefined && run.sequenceLength === baseline.sequenceLength;
}

/** Two choices by name, with their options where only these differ: `masked-lm {"probability":0.15}`. */
function choices(ours: Choice | undefined, theirs: Choice | undefined): [string?, string?] {
  if (ours === undefined || theirs === undefined) return [];
  const names = [ours, theirs].map(nameOf) as [string, string];
  if (names[0] !== names[1]) return names;
  return [ours, theirs].map((choice) => `${nameOf(choice)} ${optionsOf(choice)}`) as [string, string];
}

function nameOf(choice: Choice): string {
  return typeof choice === "string" ? choice : String(choice.use);
}

function optionsOf(choice: Choice): string {
  if (typeof choice === "string") return "{}";
  const { use: _, ...options } = choice;
  return canonicalJson(options);
}

/** The number of tokens; the hash, too, where that alone tells them apart. */
function formatVocabulary(measure: LossMeasure, other: LossMeasure): string | undefined {
  const { tokenizerHash, vocabSize } = measure;
  if (tokenizerHash === undefined || other.tokenizerHash === undefined) return vocabSize?.toString();
  if (tokenizerHash === other.tokenizerHash) return undefined;
  if (vocabSize === undefined || vocabSize === other.vocabSize)
    return `${vocabSize ?? "of tokenizer"} (${short(tokenizerHash)})`;
  return `${vocabSize}`;
}

function short(hash: string | undefined): string | undefined {
  return hash?.slice(0, 12);
}
