import { resolve } from "node:path";
import { type OpenCheckpoint, openCheckpoint } from "@espalier/checkpoints";
import { type JsonObject, type ModelConfig, type ModelFamily, UsageError } from "@espalier/core";
import type { PluginRegistry, SourceModel } from "@espalier/experiments";
import { configOf } from "./config-of-checkpoint.js";
import { noteDamage } from "./note-damage.js";

/** The model of a checkpoint. */
export interface CheckpointModel {
  readonly family: ModelFamily;
  readonly config: ModelConfig;
}

/**
 * The family that a Hugging Face config belongs to, and the config in our terms.
 *
 * @param file the config's path, for messages
 * @throws UsageError where no family reads it
 */
export function modelOf(config: JsonObject, registry: PluginRegistry, file: string): CheckpointModel {
  const families = registry
    .names("family")
    .map((name) => registry.strategy("family", name).declaration.create({}, {}));
  const family = families.find((candidate) => candidate.modelType === config.model_type);
  if (!family)
    throw new UsageError(
      "ESPALIER_CHECKPOINT_FAMILY",
      `no model family reads the model_type ${JSON.stringify(config.model_type ?? null)}; there are ${families.map((candidate) => candidate.modelType).join(", ")}`,
      { file, key: "model_type" },
    );
  return { family, config: configOf(family, config, file) };
}

/**
 * Opens a checkpoint (run, step or Hugging Face folder) and reads its model. Close it.
 *
 * @param note is told of a run's later steps that are damaged
 */
export async function openModel(
  path: string,
  registry: PluginRegistry,
  note?: (text: string) => void,
): Promise<CheckpointModel & { readonly checkpoint: OpenCheckpoint }> {
  const checkpoint = await openCheckpoint(path);
  try {
    if (note) noteDamage(checkpoint, note);
    return { checkpoint, ...modelOf(checkpoint.config, registry, resolve(checkpoint.folder, "config.json")) };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** The model of a checkpoint, without its weights, and what it took to train. */
export async function readSourceModel(path: string, registry: PluginRegistry): Promise<SourceModel> {
  const { checkpoint, config } = await openModel(path, registry);
  await checkpoint.close();
  const { spentOnCheckpoint } = await import("@espalier/trainer");
  return { config, flops: spentOnCheckpoint(checkpoint.state) };
}
