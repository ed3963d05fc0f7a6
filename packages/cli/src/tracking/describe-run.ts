import type { JsonObject } from "@espalier/core";
import type { Lock } from "@espalier/experiments";
import type { ArtifactFile, MlflowRunDescription } from "@espalier/tracking";

/** The plot of a run's own evaluation losses, written where the run is delivered to MLflow. */
export const plotFile = "loss.svg";

/** The files of a run folder that MLflow gets. */
export const runArtifacts: readonly ArtifactFile[] = ["definition.yaml", "lock.json", plotFile].map(
  (name) => ({
    path: name,
    file: name,
  }),
);

/**
 * What MLflow is told of a run beside its journal: all from the lock, so that a run that is sent later is described as it
 * would have been while it trained.
 *
 * @param tags more of them, of which those of the lock win
 */
export function describeRun(lock: Lock, tags: Readonly<Record<string, string>> = {}): MlflowRunDescription {
  const { definition, data, code, backend, machine } = lock;
  const model = object(definition.model);
  const growth = object(definition.growth);
  const corpus = nameOf(object(definition.data).corpus);
  const commit: Record<string, string> =
    code.commit === null ? {} : { "mlflow.source.git.commit": code.commit };
  return {
    id: lock.runId,
    name: `${lock.name}-s${lock.seed}`,
    startTime: Date.parse(lock.created),
    definition,
    summary:
      `**${lock.name}**, seed ${lock.seed}: ${model.family} ${model.depth}×${model.hiddenSize} on ${corpus}, ` +
      `growth by ${nameOf(growth.schedule)}, ${nameOf(growth.sampler)} and ${nameOf(growth.expander)}; ` +
      `${backend.name} ${backend.version} on ${backend.device}, threads ${backend.threads}.`,
    tags: {
      "mlflow.source.type": "LOCAL",
      "mlflow.source.name": lock.definitionFile,
      ...commit,
      ...tags,
      "espalier.version": code.version,
      "espalier.codeModified": String(code.modified ?? "unknown"),
      "espalier.definitionHash": lock.definitionHash,
      "espalier.backend": `${backend.name} ${backend.version}`,
      "espalier.device": backend.device,
      "espalier.threads": String(backend.threads),
      "espalier.machine": `${machine.cpu}, ${machine.cores} cores, ${machine.platform}, Node ${machine.node}`,
    },
    datasets: [
      {
        name: corpus,
        digest: data.fingerprint.slice(0, 36),
        sourceType: "espalier",
        source: JSON.stringify(object(definition.data)),
        profile: JSON.stringify({
          trainSequences: data.trainSequences,
          validationSequences: data.validationSequences,
          vocabSize: data.vocabSize,
          tokenizerHash: data.tokenizerHash,
        }),
        context: "training",
      },
    ],
  };
}

function object(value: unknown): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
}

/** A strategy's name: it is written alone, or with its options as `{ use: name, … }`. */
function nameOf(choice: unknown): string {
  return typeof choice === "string" ? choice : String(object(choice).use ?? "");
}
