import type { ComparedRun, Comparison } from "./comparison.js";

const columns = [
  "run",
  "seed",
  "eval loss",
  "FLOPs",
  "time",
  "FLOPs to baseline's loss",
  "FLOPs saved",
  "time saved",
] as const;

// Only where a run has a source.
const sourceColumns = ["source FLOPs", "saved with source"] as const;

function sourceCells({ sourceFlops, flopsSavingWithSource }: ComparedRun): string[] {
  return [
    sourceFlops === null ? "unknown" : formatFlops(sourceFlops),
    flopsSavingWithSource === null ? "–" : formatShare(flopsSavingWithSource),
  ];
}

/** The comparison as aligned text for a terminal, ending in what the columns mean. */
export function comparisonTable(comparison: Comparison): string {
  const hasSources = comparison.runs.some((run) => run.sourceFlops !== 0);
  const rows = comparison.runs.map((run, index) => [
    index === comparison.baselineIndex ? `${run.name} (baseline)` : run.name,
    String(run.seed),
    run.finalEvalLoss.toFixed(4),
    formatFlops(run.flops),
    formatSeconds(run.seconds),
    run.flopsToBaseline === null ? unreached(run) : formatFlops(run.flopsToBaseline),
    run.flopsSaving === null ? "–" : formatShare(run.flopsSaving),
    run.secondsSaving === null ? "–" : formatShare(run.secondsSaving),
    ...(hasSources ? sourceCells(run) : []),
  ]);
  const lines = alignColumns([[...columns, ...(hasSources ? sourceColumns : [])], ...rows]);
  if (hasSources)
    lines.push(
      "Saved with source: the same, with the FLOPs of the model that a run was grown from counted, too.",
    );
  const unfinished = comparison.runs.filter((run) => !run.complete).map((run) => run.name);
  lines.push("");
  lines.push(
    "Saved: 1 − ours / baseline's, to the baseline's final evaluation loss (first crossing, linear between evaluations).",
  );
  for (const [index, run] of comparison.runs.entries()) {
    if (run.atEqualFlops === null || index === comparison.baselineIndex) continue;
    const { flops, loss, baselineLoss } = run.atEqualFlops;
    const difference = loss - baselineLoss;
    const verdict = `${Math.abs(difference).toFixed(4)} ${difference <= 0 ? "lower" : "higher"}`;
    lines.push(
      `At equal FLOPs (${formatFlops(flops)}): ${run.name} ${loss.toFixed(4)}, ${comparison.baseline} ${baselineLoss.toFixed(4)} (${verdict}).`,
    );
  }
  for (const { name, notComparable } of comparison.runs)
    if (notComparable !== null)
      lines.push(
        `The losses of ${name} cannot be compared with those of ${comparison.baseline}: ${notComparable}.`,
      );
  if (unfinished.length > 0) lines.push(`Not finished yet: ${unfinished.join(", ")}.`);
  return lines.join("\n");
}

function unreached({ notComparable }: ComparedRun): string {
  return notComparable === null ? "not reached" : "not comparable";
}

function alignColumns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join("  ")
      .trimEnd();
  return [line(rows[0]!), widths.map((width) => "─".repeat(width)).join("  "), ...rows.slice(1).map(line)];
}

/** `3.22e13` as `32.2 T`. */
export function formatFlops(flops: number): string {
  const prefixes = ["", "k", "M", "G", "T", "P", "E", "Z"];
  let value = flops;
  let prefix = 0;
  while (value >= 999.5 && prefix < prefixes.length - 1) {
    value /= 1000;
    prefix++;
  }
  return `${value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2)} ${prefixes[prefix]}`.trimEnd();
}

function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 3600
    ? `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`
    : `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
}

function formatShare(share: number): string {
  return `${(share * 100).toFixed(1)} %`.replace("-", "−");
}
