import { readFile } from "node:fs/promises";
import { UsageError } from "@espalier/core";
import { disposeParameters } from "@espalier/growth";
import { loadTrainingParameters, type ProbeResult, parseProbeBatch, probeBatch } from "@espalier/trainer";
import { openModel } from "./checkpoint-model.js";
import { loadRegistry } from "./composition-root.js";
import type { EngineOptions } from "./engine-options.js";
import { parseLayerMap } from "./layer-map-option.js";
import { loadEngine } from "./run/engine.js";

/** What is computed. */
export interface ProbeRequest extends EngineOptions {
  /** The batch file's path. */
  readonly batch: string;
  readonly layerMap?: string;
  readonly trainSteps?: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly clip?: number;
}

/**
 * Probes a checkpoint with a batch from a file.
 *
 * @throws UsageError where batch or layer map do not fit the checkpoint
 */
export async function probeCheckpoint(
  path: string,
  request: ProbeRequest,
  note: (text: string) => void,
): Promise<ProbeResult> {
  const { checkpoint, family, config } = await openModel(path, await loadRegistry(), note);
  try {
    const batch = parseProbeBatch(await readJson(request.batch), request.batch, family, config);
    const layerMap = parseLayerMap(request.layerMap, config.depth);
    await loadEngine(
      {
        backend: request.backend ?? "auto",
        device: request.device ?? "auto",
        threads: request.threads ?? "auto",
      },
      note,
    );
    const parameters = await loadTrainingParameters(checkpoint, family, config, "none");
    try {
      return await probeBatch(
        { family, config, parameters, layerMap },
        batch,
        request.trainSteps === undefined
          ? null
          : {
              steps: request.trainSteps,
              learningRate: request.learningRate,
              weightDecay: request.weightDecay,
              // a clip of 0 would stop all training; it is taken as "none"
              clip: request.clip || null,
            },
      );
    } finally {
      disposeParameters(parameters);
    }
  } finally {
    await checkpoint.close();
  }
}

async function readJson(file: string): Promise<unknown> {
  const text = await readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new UsageError(
      "ESPALIER_BATCH_INVALID",
      cause.code === "ENOENT"
        ? `there is no batch file "${file}"`
        : `the batch file cannot be read: ${cause.message}`,
      { file, cause },
    );
  });
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UsageError(
      "ESPALIER_BATCH_INVALID",
      `the batch file is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`,
      { file, cause },
    );
  }
}
