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
      const { plotRun } = await import("../tracking/plot-run.js");
      await plotRun(folder).catch((error: unknown) => note(`no plot for MLflow: ${error}`));
      const { url } = await delivery.finish(status);
      if (url !== null) note(`MLflow: ${url}`);
    },
  };
}
