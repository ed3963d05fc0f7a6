import { randomUUID } from "node:crypto";
import os from "node:os";
import { resolve } from "node:path";
import type { LoadedBackend } from "@espalier/backends";
import type { SequenceData } from "@espalier/core";
import {
  definitionHash,
  type Experiment,
  type Lock,
  type LockedSource,
  resolvedDefinition,
} from "@espalier/experiments";
import { codeVersion } from "./code-version.js";

/** What a run computes with, beside its definition. */
export interface LockedParts {
  readonly data: SequenceData;
  readonly tokenizer: { readonly fingerprint: string; readonly vocabSize: number };
  readonly backend: LoadedBackend;
  /** Of the run, or of the nested definition that it starts from; null where there is none. */
  readonly source: LockedSource | null;
}

/** Everything that decides a run, at its start. */
export async function makeLock(experiment: Experiment, parts: LockedParts): Promise<Lock> {
  const { definition, loaded, registry } = experiment;
  const resolved = resolvedDefinition(experiment);
  const { data, tokenizer, backend, source } = parts;
  return {
    lockVersion: 1,
    runId: randomUUID().replaceAll("-", ""),
    name: definition.name,
    seed: definition.seed,
    created: new Date().toISOString(),
    definitionFile: resolve(loaded.source.file),
    overrides: loaded.overrides,
    definition: resolved,
    definitionHash: definitionHash(resolved),
    plugins: registry
      .plugins()
      .map(({ plugin, version }) => ({ name: plugin.name, version, contract: plugin.contract })),
    data: {
      fingerprint: data.fingerprint,
      tokenizerHash: tokenizer.fingerprint,
      vocabSize: tokenizer.vocabSize,
      trainSequences: data.count("train"),
      validationSequences: data.count("validation"),
    },
    ...(source === null ? {} : { source }),
    code: await codeVersion(),
    backend: {
      name: backend.name,
      device: backend.device,
      threads: backend.threads,
      version: backend.version,
    },
    machine: {
      cpu: os.cpus()[0]?.model.trim() ?? "unknown",
      cores: os.availableParallelism(),
      memoryBytes: os.totalmem(),
      platform: `${process.platform}-${process.arch}`,
      node: process.version,
    },
  };
}
