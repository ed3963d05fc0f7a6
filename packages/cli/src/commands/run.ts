import type { Command } from "commander";
import { addEngineOptions, type EngineOptions, engineOverrides } from "../engine-options.js";
import { openTerminal } from "../terminal.js";

interface RunOptions extends EngineOptions {
  readonly out?: string;
  readonly resume?: boolean;
  readonly json?: boolean;
}

/** `espalier run`: trains. */
export function addRun(program: Command): void {
  addEngineOptions(
    program
      .command("run")
      .summary("trains a definition")
      .description(
        "Trains a definition. Ctrl-C writes a checkpoint and leaves (exit code 1); --resume continues to the bit.",
      )
      .argument("<definition>", "YAML, JSON or TypeScript file")
      .argument("[overrides...]", "keys of the definition, as a.b.c=value")
      .option("--out <dir>", "the run's folder (default: runs/<name>-s<seed>)")
      .option("--resume", "continue the run in that folder; start it where there is none")
      .option("--json", "print one JSON object"),
  )
    .addHelpText(
      "after",
      `
Examples:
  $ espalier run experiments/quickstart/apollo.yaml
  $ espalier run experiments/quickstart/apollo.yaml seed=7 training.steps=200 --out runs/short
  $ espalier run experiments/quickstart/apollo.yaml --resume`,
    )
    .action(async (file: string, overrides: readonly string[], options: RunOptions) => {
      const terminal = openTerminal(options);
      const { loadDefinition } = await import("@espalier/experiments");
      const { resolveDefinition } = await import("../composition-root.js");
      const { inputsHeldBy } = await import("../run/held-inputs.js");
      const { runFolderOf } = await import("../run/run-folder.js");
      const { trainExperiment } = await import("../run/train-experiment.js");
      const { describeOutcome } = await import("../run/describe-outcome.js");
      const loaded = await loadDefinition(file, [...overrides, ...engineOverrides(options)]);
      const out = runFolderOf(loaded.definition, options.out);
      const resume = options.resume === true;
      const held = resume ? await inputsHeldBy(out) : {};
      const experiment = await resolveDefinition(loaded, held);
      const outcome = await trainExperiment(experiment, { out, resume, held, terminal });
      terminal.print(describeOutcome(outcome));
      terminal.json(outcome);
      if (outcome.interrupted) process.exitCode = 1;
    });
}
