import type { Command } from "commander";
import { openTerminal } from "../terminal.js";

interface PlanOptions {
  readonly electra?: boolean;
  readonly json?: boolean;
}

/** `espalier plan`: what a definition does and costs, without training. */
export function addPlan(program: Command): void {
  program
    .command("plan")
    .summary("what a definition does and costs; trains nothing")
    .description(
      "Stages, distribution of depths, parameters, FLOPs, memory and the predicted saving against full depth. Reads no corpus and trains nothing.",
    )
    .argument("<definition>", "YAML, JSON or TypeScript file")
    .argument("[overrides...]", "keys of the definition, as a.b.c=value")
    .option("--electra", "also the FLOPs in the convention of ELECTRA and LiGO, to compare with their papers")
    .option("--json", "print one JSON object")
    .addHelpText(
      "after",
      `
Example:
  $ espalier plan experiments/quickstart/apollo.yaml growth.sampler=uniform`,
    )
    .action(async (file: string, overrides: readonly string[], options: PlanOptions) => {
      const terminal = openTerminal(options);
      const { openExperiment } = await import("../composition-root.js");
      const { predictPlan } = await import("@espalier/experiments");
      const { refuseOtherTokenizerFile } = await import("../run/source-tokenizer.js");
      const { describePlan } = await import("../describe-plan.js");
      const experiment = await openExperiment(file, overrides);
      await refuseOtherTokenizerFile(experiment);
      const plan = predictPlan(experiment);
      const electra = options.electra
        ? (await import("../electra-plan.js")).electraPlan(plan, experiment)
        : undefined;
      terminal.print(describePlan(plan, experiment, electra));
      terminal.json(electra ? { ...plan, electra } : plan);
    });
}
