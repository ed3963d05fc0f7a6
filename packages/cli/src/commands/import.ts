import type { Command } from "commander";
import { openTerminal } from "../terminal.js";

interface ImportOptions {
  readonly out: string;
  readonly leaveOut: readonly string[];
}

/** `espalier import`: a checkpoint from Hugging Face's library. */
export function addImport(program: Command): void {
  program
    .command("import")
    .summary("reads a Hugging Face folder as a checkpoint, and says what differs")
    .description(
      "Checks a Hugging Face folder (BERT with its masked-LM head, or GPT-2; safetensors, in one file or sharded) and writes it as a checkpoint to start from: names as they are today, float32, one file. What is left out or converted is told; what cannot be computed is refused before anything is written.",
    )
    .argument("<dir>", "folder with config.json and model.safetensors")
    .requiredOption("-o, --out <dir>", "the folder to write; it must be new or empty")
    .option(
      "--leave-out <start>",
      "leaves out tensors whose name begins like this; may be given again",
      (start: string, before: readonly string[]) => [...before, start],
      [] as readonly string[],
    )
    .addHelpText(
      "after",
      `
Examples:
  $ espalier import bert-base-uncased -o bert
  $ espalier run my-definition.yaml start=bert data.tokenizer='{kind: file, path: bert}'`,
    )
    .action(async (path: string, options: ImportOptions) => {
      const terminal = openTerminal({});
      const { importCheckpoint } = await import("../import-checkpoint.js");
      const done = await importCheckpoint(path, options);
      for (const line of done.differences) terminal.print(line);
      terminal.print(
        `imported ${path} (${done.family} ${done.shape}, vocabulary ${done.vocabSize}, ${done.maxPositions} positions${done.hasTokenizer ? ", with its tokenizer" : ""}) to ${options.out}`,
      );
    });
}
