import type { Command } from "commander";
import { addEngineOptions, amount, type EngineOptions, wholeNumber } from "../engine-options.js";
import { openTerminal } from "../terminal.js";

interface ProbeOptions extends EngineOptions {
  readonly batch: string;
  readonly layerMap?: string;
  readonly trainSteps?: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly clip?: number;
  readonly json?: boolean;
}

/** `espalier probe`: numbers of a checkpoint on a given batch, to compare with any other implementation. */
export function addProbe(program: Command): void {
  addEngineOptions(
    program
      .command("probe")
      .summary("logits, loss and gradient norms of a checkpoint on a given batch")
      .description(
        "Logits, loss and gradient norms of a checkpoint on a batch, dropout off, to compare with any other implementation. With --train-steps it also trains on that batch in memory; nothing is written.",
      )
      .argument("<checkpoint>", "run folder (its last step), step folder, or Hugging Face folder")
      .requiredOption(
        "--batch <file.json>",
        '{"input_ids": [[…]], "attention_mask": [[…]], "labels": [[…]]}; label -100 does not count',
      )
      .option("--layer-map <list>", "unique layer of each executed layer, for example 0,0,1,1")
      .option("--train-steps <number>", "AdamW steps on that batch (β 0.9/0.999, ε 1e-8)", wholeNumber)
      .option("--learning-rate <number>", "of those steps, constant", amount, 1e-3)
      .option("--weight-decay <number>", "not on biases and layer norms", amount, 0)
      .option("--clip <number>", "largest global gradient norm (default: no clipping)", amount)
      .option("--json", "print one JSON object"),
  )
    .addHelpText(
      "after",
      "\nExample:\n  $ espalier probe runs/apollo-s42 --batch batch.json --layer-map 0,0,1,1 --json",
    )
    .action(async (path: string, options: ProbeOptions) => {
      const terminal = openTerminal(options);
      const { probeCheckpoint } = await import("../probe-checkpoint.js");
      const { describeProbe } = await import("../describe-probe.js");
      const result = await probeCheckpoint(path, options, terminal.note);
      terminal.print(describeProbe(result));
      terminal.json(result);
    });
}
