// The benchmark's figures as tables. `node benchmarks/tables.mjs results.json` writes them into the README's marked
// places; the harness prints the same rows.

/** One row per participant of each case, as Markdown. */
export function tableOfCases(cases) {
  const rows = cases.flatMap((measured) =>
    measured.results.map((result, index) => [
      index === 0 ? measured.key : "",
      result.name,
      whole(result.tokensPerSecond),
      `${(result.stepSeconds * 1000).toFixed(result.stepSeconds < 0.1 ? 1 : 0)} ms`,
      result.ratio === null ? "" : result.ratio.toFixed(2),
      gigabytes(result.peakBytes),
      result.ratio === null ? "" : (measured.results[0].peakBytes / result.peakBytes).toFixed(2),
      index === 0 && measured.floor
        ? `${((100 * measured.floor.seconds) / result.stepSeconds).toFixed(0)} %`
        : "",
    ]),
  );
  const heads = [
    "case",
    "who",
    "tokens/s",
    "step",
    "ours is … times as fast",
    "peak memory",
    "ours / theirs",
    "floor / step",
  ];
  return markdown(heads, rows, ["left", "left"]);
}

/** A Markdown table, its columns padded so that it is readable as text, too. */
export function markdown(heads, rows, alignments = []) {
  const widths = heads.map((head, column) =>
    Math.max(3, head.length, ...rows.map((row) => row[column].length)),
  );
  const isLeft = (column) => alignments[column] === "left";
  const line = (cells) =>
    `| ${cells.map((text, column) => (isLeft(column) ? text.padEnd(widths[column]) : text.padStart(widths[column]))).join(" | ")} |`;
  const rule = `| ${widths.map((width, column) => (isLeft(column) ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)).join(" | ")} |`;
  return [line(heads), rule, ...rows.map(line)].join("\n");
}

function whole(number) {
  return Math.round(number).toLocaleString("en");
}

function gigabytes(bytes) {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
