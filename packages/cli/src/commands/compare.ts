import type { Command } from "commander";
import { openTerminal } from "../terminal.js";

interface CompareOptions {
  readonly baseline?: string;
  readonly plot?: string;
  readonly title?: string;
  readonly json?: boolean;
}

/** `espalier compare`: runs beside a baseline, at equal loss and at equal FLOPs. */
export function addCompare(program: Command): void {
  program
    .command("compare")
    .summary("two or more runs beside a baseline, at equal loss and equal FLOPs")
    .description(
      "Compares runs with a baseline: FLOPs and seconds to the baseline's final evaluation loss, and the loss at equal FLOPs.",
    )
    .argument("<runs...>", "run folders")
    .option("--baseline <run>", "the run to compare with (default: the first)")
    .option("--plot <file.svg>", "draw evaluation loss against training FLOPs")
    .option("--title <text>", "the plot's title", "Evaluation loss against training FLOPs")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Example:
  $ espalier compare runs/scratch-s42 runs/apollo-s42 runs/stackbert-s42 --plot loss.svg`,
    )
    .action(async (folders: readonly string[], options: CompareOptions) => {
      const terminal = openTerminal(options);
      const { compareRuns, comparisonTable, loadRun, plotLossAgainstFlops } = await import(
        "@espalier/reports"
      );
      const { baselineAmong } = await import("../baseline.js");
      const { all, baseline } = baselineAmong(folders, options.baseline);
      const runs = await Promise.all(all.map(loadRun));
      const comparison = compareRuns(runs, baseline);
      if (options.plot !== undefined) {
        const { writeTextDurably } = await import("@espalier/checkpoints");
        await writeTextDurably(options.plot, await plotLossAgainstFlops(runs, options.title ?? ""));
      }
      terminal.print(comparisonTable(comparison));
      if (options.plot !== undefined) terminal.print(`plot: ${options.plot}`);
      terminal.json(options.plot === undefined ? comparison : { ...comparison, plot: options.plot });
    });
}
