import { join } from "node:path";
import { checkpointFiles, type OpenCheckpoint, openCheckpoint } from "@espalier/checkpoints";
import type { ModelConfig, ModelDescription } from "@espalier/core";
import { modelDescriptions } from "@espalier/models/descriptions";
import { configOf } from "./config-of-checkpoint.js";

/** A checkpoint with the description of its model. Close it. */
export interface DescribedCheckpoint {
  readonly checkpoint: OpenCheckpoint;
  readonly family: ModelDescription;
  readonly config: ModelConfig;
}

/**
 * Opens a checkpoint whose bytes are to be copied. The families of `@espalier/models` are known without their forward
 * passes, so that neither engine nor plugins are loaded for them; a family that a plugin brings is looked up.
 *
 * @throws UsageError where no family reads it
 */
export async function openDescribed(path: string): Promise<DescribedCheckpoint> {
  const checkpoint = await openCheckpoint(path);
  try {
    const file = join(checkpoint.folder, checkpointFiles.config);
    const known = modelDescriptions.find(({ modelType }) => modelType === checkpoint.config.model_type);
    if (known !== undefined)
      return { checkpoint, family: known, config: configOf(known, checkpoint.config, file) };
    const [{ modelOf }, { loadRegistry }] = await Promise.all([
      import("./checkpoint-model.js"),
      import("./composition-root.js"),
    ]);
    return { checkpoint, ...modelOf(checkpoint.config, await loadRegistry(), file) };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}
