import type { Command } from "commander";
import {
  addEngineOptions,
  amount,
  type EngineOptions,
  wholeNumber,
  wholeNumberFromZero,
} from "../engine-options.js";
import { openTerminal } from "../terminal.js";

interface SampleOptions extends EngineOptions {
  readonly prompt: string;
  readonly tokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly seed: number;
  readonly tokenizer?: string;
}

/** `espalier sample`: text from a causal model. */
export function addSample(program: Command): void {
  addEngineOptions(
    program
      .command("sample")
      .summary("text from a causal model")
      .description("Continues a prompt with a causal model. The same seed gives the same text.")
      .argument("<checkpoint>", "run folder (its last step), step folder, or Hugging Face folder")
      .requiredOption("--prompt <text>", "the text to continue")
      .option("--tokens <number>", "new tokens at most", wholeNumber, 64)
      .option("--temperature <number>", "0 takes the likeliest token", amount, 0.8)
      .option("--top-k <number>", "draw among this many likeliest tokens only", wholeNumber)
      .option("--seed <number>", "of the draws", wholeNumberFromZero, 0)
      .option("--tokenizer <path>", "tokenizer.json (default: the checkpoint's own)"),
  )
    .addHelpText(
      "after",
      '\nExample:\n  $ espalier sample runs/apollo-s42 --prompt "My fellow citizens" --tokens 40 --seed 7',
    )
    .action(async (path: string, options: SampleOptions) => {
      const terminal = openTerminal({});
      const { sampleText } = await import("../sample-text.js");
      for await (const piece of sampleText(path, options, terminal.note)) process.stdout.write(piece);
      process.stdout.write("\n");
    });
}
