import type { Spec } from "vega";
import { lossAtFlops } from "./crossing.js";
import type { RunSummary } from "./run-summary.js";

// Okabe and Ito's palette: told apart with every kind of colour vision, in the order of contrast on white.
const palette = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"];

interface CurvePoint {
  readonly run: string;
  readonly flops: number;
  readonly loss: number;
}

/**
 * Evaluation loss against training FLOPs, a curve per run; dots mark where a run grew, with the new depth beside them.
 *
 * @returns a complete SVG document
 */
export async function plotLossAgainstFlops(runs: readonly RunSummary[], title: string): Promise<string> {
  // Vega takes a moment to load: only those who plot pay for it.
  const vega = await import("vega");
  const labels = runLabels(runs);
  const points = runs.flatMap((run, index) => run.evaluations.map((at) => curvePoint(labels[index]!, at)));
  const growth = growthPoints(runs, labels);
  const view = new vega.View(vega.parse(specification(title, labels, points, growth)), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

interface GrowthMark extends CurvePoint {
  readonly depth: string;
  /** Pixels from the dot: upwards where negative. */
  readonly offset: number;
}

/**
 * Where the curves grew. Of several that grow to the same depth the one that spent most is written on its right, the
 * others on their left, so that neighbours do not write over each other.
 */
function growthPoints(runs: readonly RunSummary[], labels: readonly string[]): GrowthMark[] {
  const points = runs.flatMap((run, index) =>
    run.growth.flatMap(({ step, toDepth }) => {
      const flops = flopsAtStep(run, step);
      const loss = flops === null ? null : lossAtFlops(run.evaluations, flops);
      return flops === null || loss === null
        ? []
        : [{ run: labels[index]!, flops, loss, depth: `${toDepth}` }];
    }),
  );
  return points.map((point) => {
    const isLast = points.every((other) => other.depth !== point.depth || other.flops <= point.flops);
    return { ...point, offset: isLast ? -10 : 14 };
  });
}

function curvePoint(run: string, at: { flops: number; loss: number }): CurvePoint {
  return { run, flops: at.flops, loss: at.loss };
}

/** A run's name, with the seed where the name alone is not unique. */
function runLabels(runs: readonly RunSummary[]): string[] {
  return runs.map((run) =>
    runs.filter((other) => other.name === run.name).length > 1 ? `${run.name}, seed ${run.seed}` : run.name,
  );
}

function flopsAtStep(run: RunSummary, step: number): number | null {
  const after = run.evaluations.findIndex((at) => at.step >= step);
  if (after < 1) return null;
  const a = run.evaluations[after - 1]!;
  const b = run.evaluations[after]!;
  return b.step === a.step ? b.flops : a.flops + ((step - a.step) / (b.step - a.step)) * (b.flops - a.flops);
}

function specification(
  title: string,
  labels: readonly string[],
  points: readonly CurvePoint[],
  growth: readonly GrowthMark[],
): Spec {
  const axis = {
    grid: true,
    gridColor: "#e6e6e6",
    domainColor: "#888",
    tickColor: "#888",
    labelFontSize: 12,
    titleFontSize: 13,
    titlePadding: 10,
    titleFontWeight: 500,
  } as const;
  return {
    $schema: "https://vega.github.io/schema/vega/v6.json",
    background: "white",
    padding: 16,
    width: 720,
    height: 380,
    title: { text: title, fontSize: 15, anchor: "start", offset: 14 },
    data: [
      { name: "evaluations", values: [...points] },
      { name: "growth", values: [...growth] },
    ],
    scales: [
      {
        name: "x",
        type: "linear",
        range: "width",
        domain: { data: "evaluations", field: "flops" },
        zero: true,
        nice: true,
      },
      {
        name: "y",
        type: "linear",
        range: "height",
        domain: { data: "evaluations", field: "loss" },
        zero: false,
        nice: true,
      },
      { name: "colour", type: "ordinal", domain: [...labels], range: palette },
    ],
    axes: [
      { orient: "bottom", scale: "x", title: "training FLOPs", format: "~s", tickCount: 8, ...axis },
      { orient: "left", scale: "y", title: "evaluation loss (nats per token)", tickCount: 7, ...axis },
    ],
    legends: [
      {
        stroke: "colour",
        symbolType: "stroke",
        symbolStrokeWidth: 3,
        symbolSize: 300,
        orient: "top-right",
        offset: 8,
        fillColor: "white",
        padding: 8,
        cornerRadius: 4,
        strokeColor: "#ddd",
        labelFontSize: 13,
      },
    ],
    marks: [
      {
        type: "group",
        from: { facet: { name: "curve", data: "evaluations", groupby: "run" } },
        marks: [
          {
            type: "line",
            from: { data: "curve" },
            encode: {
              enter: {
                x: { scale: "x", field: "flops" },
                y: { scale: "y", field: "loss" },
                stroke: { scale: "colour", field: "run" },
                strokeWidth: { value: 2.2 },
                strokeJoin: { value: "round" },
              },
            },
          },
        ],
      },
      {
        type: "symbol",
        from: { data: "growth" },
        encode: {
          enter: {
            x: { scale: "x", field: "flops" },
            y: { scale: "y", field: "loss" },
            size: { value: 64 },
            fill: { scale: "colour", field: "run" },
            stroke: { value: "white" },
            strokeWidth: { value: 1.5 },
          },
        },
      },
      {
        type: "text",
        from: { data: "growth" },
        encode: {
          enter: {
            x: { scale: "x", field: "flops", offset: { signal: "datum.offset < 0 ? 7 : -5" } },
            y: { scale: "y", field: "loss", offset: { field: "offset" } },
            text: { signal: "'→ ' + datum.depth" },
            align: { signal: "datum.offset < 0 ? 'left' : 'right'" },
            fill: { scale: "colour", field: "run" },
            fontSize: { value: 12 },
            fontWeight: { value: 600 },
          },
        },
      },
    ],
  };
}
