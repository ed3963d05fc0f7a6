import type { Command } from "commander";
import { wholeNumber, wholeNumberFromZero } from "../engine-options.js";
import { openTerminal } from "../terminal.js";

interface ExportOptions {
  readonly out: string;
  readonly step?: number;
  readonly depth?: number;
  readonly layerMap?: string;
}

/** `espalier export`: a checkpoint for Hugging Face's library. */
export function addExport(program: Command): void {
  program
    .command("export")
    .summary("writes a checkpoint as a folder that Hugging Face's library loads")
    .description(
      "Writes a checkpoint as a folder that BertForMaskedLM or GPT2LMHeadModel.from_pretrained loads, its tokenizer along (AutoTokenizer). A model that has not grown up is written with the layers that it has, or unrolled with --depth.",
    )
    .argument("<checkpoint>", "run folder (its last step), step folder, or Hugging Face folder")
    .requiredOption("-o, --out <dir>", "the folder to write; it must be new or empty")
    .option("--step <number>", "another step of the run than its last", wholeNumberFromZero)
    .option(
      "--depth <layers>",
      "unrolls the network to so many layers, by the run's own layer mapping",
      wholeNumber,
    )
    .option("--layer-map <map>", "unrolls it by a layer map of your own, for example 0,0,1,1")
    .addHelpText(
      "after",
      `
Examples:
  $ espalier export runs/apollo-s42 -o apollo
  $ espalier export runs/apollo-s42 --step 500 --depth 12 -o apollo-500

Then in Python:
  GPT2LMHeadModel.from_pretrained("apollo"), AutoTokenizer.from_pretrained("apollo")`,
    )
    .action(async (path: string, options: ExportOptions) => {
      const terminal = openTerminal({});
      const { exportCheckpoint } = await import("../export-checkpoint.js");
      const done = await exportCheckpoint(path, { ...options, note: terminal.note });
      const unrolled = done.layerMap === null ? "" : `, layers ${done.layerMap.join(",")}`;
      terminal.print(
        `exported ${done.from} (${done.shape}${unrolled}) to ${options.out}: ${done.architecture}.from_pretrained("${options.out}")`,
      );
      if (!done.hasTokenizer) terminal.note("without a tokenizer: the checkpoint has none");
    });
}
