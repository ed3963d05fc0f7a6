import type { Experiment, Lock } from "@espalier/experiments";
import { BackgroundDelivery, sourceTags, trackingTarget } from "@espalier/tracking";
import { describeRun, runArtifacts } from "../tracking/describe-run.js";

/** A run on its way to MLflow, or nowhere. */
export interface Delivery {
  /** Sends the rest; never rejects. */
  finish(status: "FINISHED" | "FAILED" | "KILLED"): Promise<void>;
}

/** As MLflow's own monitor. */
const systemMetricsEverySeconds = 10;

/**
 * Follows a run's journal and delivers it to the tracking server, where there is one, from a process of its own. Never
 * blocks or fails a run.
 *
 * @throws UsageError for an address in the definition that is no server's
 */
export async function startDelivery(
  experiment: Experiment,
  lock: Lock,
  folder: string,
  note: (line: string) => void,
): Promise<Delivery> {
  const { definition, loaded } = experiment;
  const { connection } = trackingTarget(definition.tracking.uri);
  if (connection === null) return { finish: async () => undefined };
  const tags = await sourceTags(loaded.source.baseDirectory, loaded.source.file);
  const delivery = BackgroundDelivery.start({
    folder,
    connection,
    experiment: definition.tracking.experiment ?? definition.name,
    run: describeRun(lock, tags),
    artifacts: runArtifacts,
    checkpoints: definition.tracking.checkpoints,
    systemMetricsEverySeconds,
    note,
  });
  return {
    async finish(status) {
      const url = await withoutHolding(note, async (signal) => {
        const { plotRun } = await import("../tracking/plot-run.js");
        await plotRun(folder).catch((error: unknown) => note(`no plot for MLflow: ${error}`));
        return (await delivery.finish(status, { signal })).url;
      });
      if (url !== null) note(`MLflow: ${url}`);
    },
  };
}

/** Milliseconds after which a user is told what is waited for. */
const patience = 3000;

/** Waits for the rest to arrive, as long as the user does: Ctrl-C leaves it to the delivery's own process. */
async function withoutHolding<Result>(
  note: (line: string) => void,
  finish: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const controller = new AbortController();
  const leave = (): void => {
    note("MLflow gets the rest in the background; what does not arrive, espalier sync sends");
    controller.abort();
  };
  process.once("SIGINT", leave);
  process.once("SIGTERM", leave);
  const told = setTimeout(
    () => note("MLflow: sending the rest of this run (Ctrl-C leaves that to the background)"),
    patience,
  );
  try {
    return await finish(controller.signal);
  } finally {
    clearTimeout(told);
    process.off("SIGINT", leave);
    process.off("SIGTERM", leave);
  }
}
