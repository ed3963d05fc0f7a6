export type { ComparedRun, Comparison } from "./comparison.js";
export { compareRuns } from "./comparison.js";
export { comparisonTable, formatFlops } from "./comparison-table.js";
export type { Crossing } from "./crossing.js";
export { firstCrossing, lossAtFlops } from "./crossing.js";
export { plotLossAgainstFlops } from "./loss-plot.js";
export type { Evaluation, GrowthPoint, RunSummary } from "./run-summary.js";
export { loadRun } from "./run-summary.js";
