import type { Batch, Metric, Tag } from "@espalier/mlflow-js-client";
import type { RunEvent, StepMetrics } from "./records.js";
import { growthText } from "./run-note.js";
import type { SystemSample } from "./system-metrics.js";

/** The journal's measurements that become metrics, under the journal's own names. */
const stepMetricNames = [
  "loss",
  "learningRate",
  "gradientNorm",
  "depth",
  "uniqueLayers",
  "stage",
  "flops",
  "tokens",
  "seconds",
  "tokensPerSecond",
] as const satisfies readonly (keyof StepMetrics)[];

/** The evaluation loss once more, against training FLOPs: MLflow's "step" is 10⁹ FLOPs. */
export const lossByGflops = "evaluation-by-gflops/loss";

/** What MLflow gets of the machine's measurements: its own names, its own tab. */
export function systemMetrics(samples: readonly SystemSample[]): Metric[] {
  return samples.flatMap(({ sample, time, values }) =>
    Object.entries(values)
      .filter(([, value]) => Number.isFinite(value))
      .map(([name, value]) => ({ key: `system/${name}`, value, timestamp: time, step: sample })),
  );
}

/** Old servers cut longer tags. */
const longestTag = 5000;

/**
 * What MLflow gets of a part of the journal, with the journal's own times and steps: sent again it is identical, and
 * a server keeps an identical point once. Numbers that are not finite become a tag, for MLflow's stores and pages
 * spoil them.
 */
export function mlflowBatch(steps: readonly StepMetrics[], events: readonly RunEvent[]): Batch {
  const metrics: Metric[] = [];
  const tags = new Map<string, string>();
  const measure = (key: string, value: number, { step, time }: { step: number; time: number }) => {
    if (Number.isFinite(value)) metrics.push({ key, value, timestamp: time, step });
    else tags.set(`espalier.nonFinite.${key}`, `${value} at step ${step}`);
  };
  for (const line of steps) for (const name of stepMetricNames) measure(name, line[name], line);
  for (const event of events) describe(event, measure, tags);
  return {
    metrics,
    tags: [...tags].map(([key, value]): Tag => ({ key, value: value.slice(0, longestTag) })),
  };
}

function describe(
  event: RunEvent,
  measure: (key: string, value: number, at: { step: number; time: number }) => void,
  tags: Map<string, string>,
): void {
  switch (event.event) {
    case "start":
      break;
    case "growth":
      tags.set(
        `espalier.growth.${event.stage}`,
        `${growthText(event)} after step ${event.step}, by ${event.expander}`,
      );
      break;
    case "evaluation":
      measure("evaluation/loss", event.loss, event);
      measure("evaluation/depth", event.depth, event);
      // In MLflow's charts a metric can be the x-axis: losses at equal FLOPs.
      measure("evaluation/flops", event.flops, event);
      // And where steps are the x-axis: here a step is a GFLOP, so that runs are compared at equal FLOPs.
      measure(lossByGflops, event.loss, { step: Math.round(event.flops / 1e9), time: event.time });
      if (event.targetLoss !== undefined) measure("evaluation/targetLoss", event.targetLoss, event);
      break;
    case "checkpoint":
      tags.set("espalier.checkpoint", event.path);
      break;
    case "resume":
      tags.set("espalier.resumed", `from step ${event.step}`);
      break;
    case "interrupted":
      tags.set("espalier.interrupted", `after step ${event.step}`);
      break;
    case "diverged":
      tags.set(
        "espalier.diverged",
        `loss ${event.loss ?? "not finite"}${
          event.gradientNorm === undefined ? "" : `, gradient norm ${event.gradientNorm}`
        } at step ${event.step}`,
      );
      break;
    case "end":
      if (event.finalTrainLoss !== null) measure("finalTrainLoss", event.finalTrainLoss, event);
      if (event.finalEvalLoss !== null) measure("finalEvalLoss", event.finalEvalLoss, event);
      break;
  }
}
