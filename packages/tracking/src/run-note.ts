import { formatShape, sameShape } from "@espalier/core";
import type { GrowthEvent, RunEvent } from "./records.js";

/**
 * A run's description for MLflow's page, in Markdown: what it is, how it ended, and how it grew. The page shows only its
 * first lines, so the key sentence comes first.
 */
export function runNote(summary: string | undefined, events: readonly RunEvent[]): string {
  const parts: string[] = [];
  const end = events.findLast((event) => event.event === "end");
  if (end !== undefined) {
    const loss = end.finalEvalLoss ?? end.finalTrainLoss;
    const kind = end.finalEvalLoss === null ? "training loss" : "evaluation loss";
    const result = loss === null ? "" : `${kind} **${loss.toFixed(4)}** after `;
    parts.push(`${result}**${(end.flops / 1e12).toPrecision(3)} TFLOPs**, ${Math.round(end.seconds)} s.`);
  }
  const last = events.at(-1);
  if (last?.event === "diverged")
    parts.push(`**Diverged**: loss ${last.loss ?? "not finite"} at step ${last.step}.`);
  if (summary !== undefined) parts.push(summary);
  const growths = events.filter((event) => event.event === "growth");
  if (growths.length > 0)
    parts.push(
      [
        "| after step | growth | expander |",
        "|---|---|---|",
        ...growths.map((growth) => `| ${growth.step} | ${growthText(growth)} | ${growth.expander} |`),
      ].join("\n"),
    );
  return parts.join("\n\n");
}

/** `3 → 6 layers`, or whole shapes where more than the depth changes. MLflow's page shows only a tag's first words. */
export function growthText({ from, to }: GrowthEvent): string {
  if (sameShape({ ...from, depth: to.depth }, to)) return `${from.depth} → ${to.depth} layers`;
  return `${formatShape(from)} → ${formatShape(to)}`;
}
