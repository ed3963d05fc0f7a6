import { type Experiment, type Lock, resolvedDefinition } from "@espalier/experiments";
import { MlflowDelivery, sourceTags, trackingTarget } from "@espalier/tracking";

/** A run on its way to MLflow, or nowhere. */
export interface Delivery {
  /** Sends the rest; never rejects. */
  finish(status: "FINISHED" | "FAILED" | "KILLED"): Promise<void>;
}

/**
 * Follows a run's journal and delivers it to the tracking server, where there is one. Never blocks or fails a run.
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
  const delivery = MlflowDelivery.start({
    folder,
    connection,
    experiment: definition.tracking.experiment ?? definition.name,
    run: {
      id: lock.runId,
      name: `${lock.name}-s${lock.seed}`,
      startTime: Date.parse(lock.created),
      definition: resolvedDefinition(experiment),
      tags: await sourceTags(loaded.source.baseDirectory, loaded.source.file),
    },
    note,
  });
  return {
    async finish(status) {
      const { url } = await delivery.finish(status);
      if (url !== null) note(`MLflow: ${url}`);
    },
  };
}
