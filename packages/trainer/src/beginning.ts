import { join } from "node:path";
import {
  checkpointFiles,
  cleanCheckpoints,
  lastCompleteStep,
  listSteps,
  openCheckpoint,
  stepFolder,
} from "@espalier/checkpoints";
import { type TrainingParameters, UsageError } from "@espalier/core";
import { initializeParameters } from "@espalier/growth";
import { configAt, rehearseGrowth } from "./growth-plan.js";
import { loadTrainingParameters, recogniseModel } from "./parameters.js";
import type { TrainingSetup } from "./training-setup.js";
import { spentOnCheckpoint, stateFromJson, type TrainingState } from "./training-state.js";

/** Where a session begins. */
export interface Beginning {
  readonly state: TrainingState;
  /** The step whose checkpoint it goes on from; null at the beginning of a run. */
  readonly resumedFrom: number | null;
}

/**
 * The state that training begins with: that of the last complete checkpoint when it is resumed, else that of the start
 * checkpoint, else fresh parameters at the schedule's first shape. Nothing larger is allocated.
 *
 * @throws UsageError if there are checkpoints and the run is not resumed, if the definition has changed, if the growth
 * cannot take place within the budget
 */
export async function begin(setup: TrainingSetup): Promise<Beginning> {
  if (setup.resume) {
    const step = await lastCompleteStep(setup.folder);
    await cleanCheckpoints(setup.folder, step);
    if (step !== null) return resume(setup, step);
  } else if ((await listSteps(setup.folder)).length > 0)
    throw new UsageError("ESPALIER_RUN_EXISTS", `${setup.folder} has checkpoints of an earlier run`, {
      file: setup.folder,
      hint: "continue it with --resume, or choose another folder with --out",
    });
  const { schedule, sampler } = setup.strategies;
  const first = await firstParameters(setup);
  const state: TrainingState = {
    ...first,
    step: 0,
    microStep: 0,
    stage: 0,
    tokens: 0,
    flops: 0,
    seconds: 0,
    scheduleMemory: schedule.init(),
    samplerMemory: sampler.init(),
    evaluationLoss: null,
    evaluatedAt: null,
    trainLoss: null,
    grownAt: null,
    growths: [],
  };
  return { state, resumedFrom: null };
}

async function firstParameters(setup: TrainingSetup): Promise<{
  config: TrainingState["config"];
  parameters: TrainingParameters;
  sourceFlops: number | null;
}> {
  const { family, config: target, start, random, strategies } = setup;
  if (start === undefined) {
    const config = configAt(target, strategies.schedule.initial(target));
    rehearseGrowth(setup, config);
    return { config, parameters: initializeParameters(family, config, random), sourceFlops: 0 };
  }
  const checkpoint = await openCheckpoint(start.path);
  try {
    const file = join(checkpoint.folder, checkpointFiles.config);
    const found = recogniseModel(checkpoint.config, [family], file);
    const config = configAt(target, found.config);
    rehearseGrowth(setup, config);
    const moments = start.moments === false ? "none" : "if-present";
    return {
      config,
      parameters: await loadTrainingParameters(checkpoint, family, config, moments),
      sourceFlops: spentOnCheckpoint(checkpoint.state),
    };
  } finally {
    await checkpoint.close();
  }
}

async function resume(setup: TrainingSetup, step: number): Promise<Beginning> {
  const checkpoint = await openCheckpoint(stepFolder(setup.folder, step));
  try {
    const file = join(checkpoint.folder, checkpointFiles.state);
    const progress = stateFromJson(checkpoint.state, file, setup);
    const parameters = await loadTrainingParameters(checkpoint, setup.family, progress.config, "required");
    return { state: { ...progress, parameters }, resumedFrom: step };
  } finally {
    await checkpoint.close();
  }
}
