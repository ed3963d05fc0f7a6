import { formatShape, sameShape } from "@espalier/core";
import type { Experiment, Plan, PlannedStage } from "@espalier/experiments";
import type { ElectraPlan } from "./electra-plan.js";
import { formatBytes, formatCount, formatFlops, formatShare } from "./format.js";

const barWidth = 40;
const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"] as const;

/** A plan as text: what is trained, each stage with its depths as bars, and the bill. */
export function describePlan(plan: Plan, experiment: Experiment, electra?: ElectraPlan): string {
  const { config, choices, definition } = experiment;
  const growth = definition.growth.preset === undefined ? "" : `preset ${definition.growth.preset}: `;
  const lines = [
    `${plan.name}: ${config.family} ${formatShape(config)}, vocabulary ${config.vocabSize}, ${choices.objective.use}`,
    `${formatCount(plan.parameters)} parameters; ${about(plan)}${plan.steps} steps of ${plan.tokens / plan.steps} tokens, ${formatCount(plan.tokens)} in all`,
    `${growth}schedule ${choices.schedule.use}, sampler ${choices.sampler.use}, expander ${choices.expander.use}, sharing ${choices.sharing.use}`,
  ];
  if (plan.start)
    lines.push(
      `starts from ${plan.start.name}, trained first: ${plan.start.steps} steps, ${formatFlops(plan.start.totalFlops)} that are counted apart`,
    );
  if (experiment.start.kind === "checkpoint") lines.push(`starts from ${experiment.start.path}`);
  const first = plan.stages[0]!.shape;
  if (plan.startShape && !sameShape(plan.startShape, first))
    lines.push(
      `grows before its first step, by ${choices.expander.use}: ${formatShape(plan.startShape)} → ${formatShape(first)}`,
    );
  if (plan.adaptive)
    lines.push("", "The schedule decides as training goes: this is the plan without any growth.");
  for (const stage of plan.stages) lines.push("", ...describeStage(stage, plan));
  lines.push(
    "",
    `FLOPs        ${formatFlops(plan.totalFlops)}`,
    `  full depth ${formatFlops(plan.fullDepthFlops)} (${config.depth} layers in every step)`,
    `  saved      ${formatShare(plan.predictedSaving)} at equal steps`,
    ...(plan.startShape === null ? [] : describeSource(plan)),
    ...(electra
      ? [
          `ELECTRA      ${formatFlops(electra.totalFlops)}, full depth ${formatFlops(electra.fullDepthFlops)}, saved ${formatShare(electra.predictedSaving)}`,
        ]
      : []),
    `memory       ${formatBytes(plan.memory.total)} (parameters ${formatBytes(plan.memory.parameters)}, gradients ${formatBytes(plan.memory.gradients)}, moments ${formatBytes(plan.memory.optimizer)}, activations about ${formatBytes(plan.memory.activations)})`,
  );
  return lines.join("\n");
}

function describeSource(plan: Plan): string[] {
  if (
    plan.sourceFlops === null ||
    plan.totalFlopsWithSource === null ||
    plan.predictedSavingWithSource === null
  )
    return ["  source     does not say what it took"];
  return [
    `  source     ${formatFlops(plan.sourceFlops)}, with it ${formatFlops(plan.totalFlopsWithSource)}: saved ${formatShare(plan.predictedSavingWithSource)}`,
  ];
}

function about(plan: Plan): string {
  return plan.budget.unit === "flops" ? "about " : "";
}

function describeStage(stage: PlannedStage, plan: Plan): string[] {
  const last = stage.firstStep + stage.steps;
  const heading = `stage ${stage.index}  steps ${stage.firstStep + 1}–${last} (${formatShare(stage.steps / plan.steps)})  ${layers(stage.depth)}${channels(stage, plan)}, ${formatCount(stage.parameters)} parameters`;
  const cost = `         executes ${stage.expectedDepth.toFixed(2)} on average, ${formatFlops(stage.flopsPerStep)} a step`;
  const entries = Object.entries(stage.distribution);
  const largest = Math.max(...entries.map(([, probability]) => probability));
  const width = Math.max(...entries.map(([depth]) => depth.length));
  return [
    heading,
    cost,
    ...entries.map(
      ([depth, probability]) =>
        `  ${depth.padStart(width)} ${bar(probability / largest).padEnd(barWidth)} ${formatShare(probability).padStart(7)}`,
    ),
  ];
}

// Said where stages differ in it.
function channels(stage: PlannedStage, plan: Plan): string {
  const isSame = plan.stages.every(({ shape }) => shape.hiddenSize === stage.shape.hiddenSize);
  return isSame ? "" : ` of ${stage.shape.hiddenSize} channels`;
}

function layers(depth: number): string {
  return `${depth} unique layer${depth === 1 ? "" : "s"}`;
}

function bar(share: number): string {
  const parts = Math.max(1, Math.round(share * barWidth * 8));
  return "█".repeat(Math.floor(parts / 8)) + eighths[parts % 8];
}
