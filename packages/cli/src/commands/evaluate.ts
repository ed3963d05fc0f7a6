import type { Command } from "commander";
import { addEngineOptions, type EngineOptions, wholeNumber } from "../engine-options.js";
import { openTerminal } from "../terminal.js";

interface EvaluateOptions extends EngineOptions {
  readonly batches?: number;
  readonly json?: boolean;
}

/** `espalier evaluate`: loss and perplexity of a checkpoint on held-out text. */
export function addEvaluate(program: Command): void {
  addEngineOptions(
    program
      .command("evaluate")
      .summary("loss and perplexity of a checkpoint on held-out text")
      .description(
        "Loss and perplexity on the held-out part of a corpus. Without a definition it is that of the run which the checkpoint belongs to.",
      )
      .argument("<checkpoint>", "run folder (its last step), step folder, or Hugging Face folder")
      .argument("[definition]", "definition whose corpus and objective are used")
      .argument("[overrides...]", "keys of the definition, as a.b.c=value")
      .option("--batches <number>", "batches to look at (default: evaluation.batches)", wholeNumber)
      .option("--json", "print one JSON object"),
  )
    .addHelpText(
      "after",
      `
Examples:
  $ espalier evaluate runs/apollo-s42
  $ espalier evaluate my-gpt2 experiments/quickstart/apollo.yaml data.sequenceLength=64`,
    )
    .action(
      async (
        checkpoint: string,
        definition: string | undefined,
        overrides: readonly string[],
        options: EvaluateOptions,
      ) => {
        const terminal = openTerminal(options);
        const { evaluateCheckpoint } = await import("../evaluate-checkpoint.js");
        const given = definition?.includes("=")
          ? { overrides: [definition, ...overrides] }
          : { ...(definition === undefined ? {} : { definition }), overrides };
        const result = await evaluateCheckpoint(checkpoint, { ...given, ...options, note: terminal.note });
        terminal.print(
          `loss ${result.loss.toFixed(4)} nats, perplexity ${result.perplexity.toFixed(2)}, at ${result.depth} layers on ${result.sequences} held-out sequences (${result.positions} counted positions)`,
        );
        terminal.json(result);
      },
    );
}
