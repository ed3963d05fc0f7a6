import { join } from "node:path";
import type { LoadedBackend } from "@espalier/backends";
import { lastCompleteStep } from "@espalier/checkpoints";
import {
  type Experiment,
  type Lock,
  predictPlan,
  resolvedDefinition,
  withPlaceAsync,
} from "@espalier/experiments";
import { RunJournal, trackingTarget } from "@espalier/tracking";
import { checkPrecision, type TrainingJournal, type TrainingResult, train } from "@espalier/trainer";
import { openRunScope } from "../composition-root.js";
import { noteDamageOfRun } from "../note-damage.js";
import type { Terminal } from "../terminal.js";
import { compareLocks } from "./compare-locks.js";
import { startDelivery } from "./delivery.js";
import { loadEngine } from "./engine.js";
import type { HeldInputs } from "./held-inputs.js";
import { heedInterruption } from "./interruption.js";
import { makeLock } from "./make-lock.js";
import { type PreparedData, prepareData } from "./prepare-data.js";
import { type ProgressLine, progressLine } from "./progress-line.js";
import { examineRunFolder, readLock, runFolderOf, writeRunFolder } from "./run-folder.js";
import { finishedSource } from "./source.js";
import { type SourceOnRecord, sourceToBegin } from "./source-to-begin.js";

/** How a run is started. */
export interface RunRequest {
  /** The run's folder; default `runs/<name>-s<seed>`. */
  readonly out?: string;
  readonly resume: boolean;
  readonly terminal: Terminal;
  /** What the run that is continued holds itself of what it was started from. */
  readonly held?: HeldInputs;
  /** Of a nested definition: what the lock of the run around it says of the checkpoint, and that lock's path. */
  readonly around?: SourceOnRecord;
}

/** What `espalier run --json` prints. */
export interface RunOutcome {
  readonly runId: string;
  readonly out: string;
  readonly backend: string;
  readonly device: string;
  readonly threads: number;
  readonly steps: number;
  readonly finalTrainLoss: number | null;
  readonly finalEvalLoss: number | null;
  readonly flops: number;
  /** FLOPs that training the source took; 0 without one, null where it does not say. Not part of `flops`. */
  readonly sourceFlops: number | null;
  readonly tokens: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
  readonly checkpoint: string | null;
  readonly interrupted: boolean;
  readonly resumedFrom: number | null;
}

/**
 * Trains an experiment in its folder. Nothing is written there before definition, corpus and engine are known to be
 * good.
 */
export async function trainExperiment(experiment: Experiment, request: RunRequest): Promise<RunOutcome> {
  const { definition } = experiment;
  const { terminal } = request;
  const folder = await examineRunFolder(
    runFolderOf(definition, request.out),
    request.resume,
    resolvedDefinition(experiment),
  );
  const { locate } = experiment;
  // An address that is none is told before anything is computed.
  await withPlaceAsync("tracking.uri", locate, async () => trackingTarget(definition.tracking.uri));
  const backend = await withPlaceAsync("backend", locate, () => loadEngine(definition, terminal.note));
  await withPlaceAsync("training.precision", locate, async () =>
    checkPrecision(definition.training.precision),
  );
  const prepared = await withPlaceAsync("data", locate, () => prepareData(experiment, request.held ?? {}));
  try {
    const { tokenizer, data } = prepared;
    // What it goes on from is its own: whatever it was started from may have changed, or be gone.
    const isUnderWay = folder.state === "started" && (await lastCompleteStep(folder.path)) !== null;
    const source = isUnderWay ? null : await sourceToBegin(experiment, folder, tokenizer, request.around);
    const lock = await makeLock(experiment, {
      data,
      tokenizer: { fingerprint: tokenizer.fingerprint, vocabSize: tokenizer.info.vocabSize },
      backend,
      source,
    });
    if (folder.state === "started") {
      compareLocks(folder.lock, lock, folder.path, terminal);
      await noteDamageOfRun(folder.path, terminal.note);
    } else await writeRunFolder(folder.path, experiment.loaded.source.text, lock);
    const run: Run = {
      experiment,
      prepared,
      lock: folder.state === "started" ? folder.lock : lock,
      folder: folder.path,
      isUnderWay,
      weights: experiment.start.kind === "checkpoint" && source ? source.folder : null,
      request,
    };
    const trained = await trainedSource(run);
    if (trained === "interrupted") return { ...outcome(run, backend, notStarted), interrupted: true };
    return outcome(run, backend, await trainInFolder(run, trained));
  } finally {
    prepared.data.close();
  }
}

interface Run {
  readonly experiment: Experiment;
  readonly prepared: PreparedData;
  readonly lock: Lock;
  readonly folder: string;
  /** Whether it has a checkpoint of its own to go on from. */
  readonly isUnderWay: boolean;
  /** The folder with the weights of a checkpoint to begin from; null where it begins from none. */
  readonly weights: string | null;
  readonly request: RunRequest;
}

type Ending = Pick<TrainingResult, Exclude<keyof RunOutcome & keyof TrainingResult, never>>;

const notStarted: Ending = {
  steps: 0,
  finalTrainLoss: null,
  finalEvalLoss: null,
  flops: 0,
  sourceFlops: 0,
  tokens: 0,
  seconds: 0,
  tokensPerSecond: 0,
  checkpoint: null,
  interrupted: true,
  resumedFrom: null,
};

function outcome(run: Run, backend: LoadedBackend, ending: Ending): RunOutcome {
  return {
    runId: run.lock.runId,
    out: run.folder,
    backend: backend.name,
    device: backend.device,
    threads: backend.threads,
    steps: ending.steps,
    finalTrainLoss: ending.finalTrainLoss,
    finalEvalLoss: ending.finalEvalLoss,
    flops: ending.flops,
    sourceFlops: ending.sourceFlops,
    tokens: ending.tokens,
    seconds: ending.seconds,
    tokensPerSecond: ending.tokensPerSecond,
    checkpoint: ending.checkpoint,
    interrupted: ending.interrupted,
    resumedFrom: ending.resumedFrom,
  };
}

/**
 * The folder of the nested definition that a run starts from: that of a finished run of it beside this one, else it is
 * trained in the run's own folder. Undefined where the run has no nested definition, or has gone on from it already.
 */
async function trainedSource({
  experiment,
  folder,
  lock,
  isUnderWay,
  request,
}: Run): Promise<string | undefined | "interrupted"> {
  if (experiment.start.kind !== "experiment" || isUnderWay) return undefined;
  const nested = experiment.start.experiment;
  const own = join(folder, "start");
  const isBegun = await readLock(own).then(
    () => true,
    () => false,
  );
  const found = isBegun ? null : await finishedSource(nested, folder, lock);
  if (found !== null) {
    request.terminal.note(
      `source: ${nested.definition.name}, taken from ${found}, which has been trained already`,
    );
    return found;
  }
  request.terminal.note(`first: ${nested.definition.name}, which ${experiment.definition.name} starts from`);
  const around = lock.source && { source: lock.source, file: join(folder, "lock.json") };
  const { interrupted, out } = await trainExperiment(nested, {
    ...request,
    out: own,
    ...(around && { around }),
  });
  return interrupted ? "interrupted" : out;
}

async function trainInFolder(run: Run, startFolder: string | undefined): Promise<TrainingResult> {
  const { experiment, prepared, lock, folder, request } = run;
  const { definition } = experiment;
  const { training } = definition;
  const scope = openRunScope(experiment, {
    tokenizer: prepared.tokenizer.info,
    data: prepared.data,
    config: prepared.config,
  });
  const journal = await RunJournal.open(folder);
  const plan = predictPlan(experiment);
  const progress = progressLine(request.terminal.progress, plan.adaptive ? null : plan.stages.length);
  const interruption = heedInterruption(progress.note);
  const delivery = await startDelivery(experiment, lock, folder, progress.note);
  let status: "FINISHED" | "FAILED" | "KILLED" = "FAILED";
  const startPath = run.weights ?? startFolder;
  try {
    const result = await train({
      family: experiment.family,
      config: prepared.config,
      strategies: scope.strategies,
      data: prepared.data,
      seed: definition.seed,
      random: scope.random,
      budget: experiment.budget,
      batchSize: training.batchSize,
      gradientAccumulation: training.gradientAccumulation,
      precision: training.precision,
      recompute: training.recompute,
      gradientClipNorm: training.gradientClipNorm === "none" ? null : training.gradientClipNorm,
      evaluation: definition.evaluation,
      checkpoints: definition.checkpoints,
      folder,
      journal: shown(journal, progress),
      definitionHash: lock.definitionHash,
      tokenizerJson: prepared.tokenizer.json,
      ...(startPath === undefined ? {} : { start: { path: startPath } }),
      resume: request.resume,
      signal: interruption.signal,
      ...(plan.adaptive ? {} : { expectedFlops: plan.totalFlops }),
      onProgress: progress.step,
    });
    status = result.interrupted ? "KILLED" : "FINISHED";
    return result;
  } finally {
    progress.close();
    try {
      await journal.close();
    } finally {
      interruption.release();
      await delivery.finish(status);
      await scope.dispose();
    }
  }
}

/** A journal that also shows what happens. */
function shown(journal: RunJournal, progress: ProgressLine): TrainingJournal {
  return {
    step: (record) => void journal.step(record),
    event(event) {
      const isWritten = journal.event(event);
      if (event.event === "resume" && !isWritten)
        progress.note(`the run is finished: nothing is left to train after step ${event.step}`);
      else progress.event(event);
    },
    flush: () => journal.flush(),
  };
}
