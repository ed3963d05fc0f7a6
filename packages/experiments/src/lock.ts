import { createHash } from "node:crypto";
import { canonicalJson, type JsonObject, UsageError } from "@espalier/core";
import type { Experiment, SourceModel } from "./resolve.js";
import { isObject } from "./source.js";
import { describeChoice } from "./strategy-choice.js";

/** The checkpoint that a run was started from, as it was then. */
export interface LockedSource extends SourceModel {
  /** The folder with the weights: of a run, the step's. */
  readonly folder: string;
  /** Hash of its safetensors files: weights and, where there are any, moments. */
  readonly fingerprint: string;
}

/** Everything that decided a run: what `lock.json` holds. */
export interface Lock {
  readonly lockVersion: 1;
  readonly runId: string;
  readonly name: string;
  readonly seed: number;
  /** ISO 8601. */
  readonly created: string;
  /** The definition's path as it was given, and the overrides of the command line. */
  readonly definitionFile: string;
  readonly overrides: readonly string[];
  /** With every default and every strategy's options in place. */
  readonly definition: JsonObject;
  /** SHA-256 of what a resumed run must have the same of. */
  readonly definitionHash: string;
  readonly plugins: readonly { readonly name: string; readonly version: string; readonly contract: number }[];
  readonly data: {
    /** Hash of the packed sequences (corpus, tokenizer, length, split). */
    readonly fingerprint: string;
    readonly tokenizerHash: string;
    readonly vocabSize: number;
    readonly trainSequences: number;
    readonly validationSequences: number;
  };
  /**
   * The checkpoint of `start`, or of the nested definition's `start`. Missing where the run starts from none, and in the
   * locks of earlier versions.
   */
  readonly source?: LockedSource;
  /** `modified`: whether tracked files differ from the commit. */
  readonly code: {
    readonly version: string;
    readonly commit: string | null;
    readonly modified: boolean | null;
  };
  readonly backend: {
    readonly name: string;
    readonly device: string;
    readonly threads: number;
    readonly version: string;
  };
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryBytes: number;
    readonly platform: string;
    readonly node: string;
  };
}

/** The definition with every default, preset and option written out. */
export function resolvedDefinition(experiment: Experiment): JsonObject {
  const { definition, choices, config } = experiment;
  const { steps, tokens, flops } = definition.training;
  return plain({
    ...definition,
    $schema: undefined,
    model: {
      ...definition.model,
      intermediateSize: config.intermediateSize,
      maxPositions: config.maxPositions,
      layerNormEpsilon: config.layerNormEpsilon,
    },
    data: { ...definition.data, corpus: describeChoice(choices.corpus) },
    objective: describeChoice(choices.objective),
    growth: {
      preset: definition.growth.preset,
      schedule: describeChoice(choices.schedule),
      sampler: describeChoice(choices.sampler),
      expander: describeChoice(choices.expander),
      sharing: describeChoice(choices.sharing),
    },
    training: {
      ...definition.training,
      steps,
      tokens,
      flops,
      optimizer: describeChoice(choices.optimizer),
      schedule: describeChoice(choices.learningRate),
    },
    tracking: {
      ...definition.tracking,
      experiment: definition.tracking.experiment ?? definition.name,
    },
  });
}

// What a resumed run may change: nothing of it reaches the parameters; recomputed layers give the same bits. Engine, device and threads are the machine's
// business; a change of theirs is told, since the losses are then the same only up to rounding.
const changeable = [
  "tracking",
  "checkpoints",
  "backend",
  "device",
  "threads",
  "deterministic",
  "plugins",
  "growth.preset",
  "training.recompute",
];

/** The part of a resolved definition that decides the result. */
function binding(definition: JsonObject): Map<string, string> {
  const leaves = new Map<string, string>();
  const walk = (value: unknown, path: string): void => {
    if (changeable.some((key) => path === key)) return;
    if (isObject(value))
      for (const [key, child] of Object.entries(value)) walk(child, path === "" ? key : `${path}.${key}`);
    else leaves.set(path, JSON.stringify(value));
  };
  walk(definition, "");
  return leaves;
}

/** SHA-256 of everything in a resolved definition that a resumed run must have the same of. */
export function definitionHash(definition: JsonObject): string {
  const parts = Object.fromEntries(binding(definition));
  return createHash("sha256").update(canonicalJson(parts)).digest("hex");
}

/** The keys in which two resolved definitions differ, as far as a resumed run must not. */
export function changedKeys(
  before: JsonObject,
  now: JsonObject,
): { readonly key: string; readonly before: string; readonly now: string }[] {
  const old = binding(before);
  const current = binding(now);
  const keys = new Set([...old.keys(), ...current.keys()]);
  return [...keys]
    .filter((key) => old.get(key) !== current.get(key))
    .map((key) => ({ key, before: old.get(key) ?? "nothing", now: current.get(key) ?? "nothing" }));
}

/**
 * Refuses to continue a run with another definition.
 *
 * @param file the lock's path, for the message
 * @throws UsageError ESPALIER_RESUME_CHANGED naming every key that differs
 */
export function refuseChangedDefinition(lock: Lock, definition: JsonObject, file: string): void {
  const changes = changedKeys(lock.definition, definition);
  if (changes.length === 0) return;
  throw new UsageError(
    "ESPALIER_RESUME_CHANGED",
    `the run was started with another definition; what differs:${changes
      .map(({ key, before, now }) => `\n  ${key}: ${before} in the run, ${now} now`)
      .join("")}`,
    {
      file,
      key: changes[0]!.key,
      hint: "resume it with the definition that it was started with, or give another --out",
    },
  );
}

function plain(value: object): JsonObject {
  return JSON.parse(JSON.stringify(value)) as JsonObject;
}
