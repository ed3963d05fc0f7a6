import { UsageError } from "@espalier/core";
import type { Command } from "commander";
import { addEngineOptions, type EngineOptions, wholeNumberFromZero } from "../engine-options.js";
import { addPluginOption, type PluginOption } from "../plugin-option.js";
import { openTerminal } from "../terminal.js";

interface GrowOptions extends EngineOptions, PluginOption {
  readonly using: string;
  readonly to: string;
  readonly out?: string;
  readonly seed: number;
  readonly map?: string;
  readonly describe?: boolean;
}

/** `espalier grow`: applies a growth operator to a checkpoint. */
export function addGrow(program: Command): void {
  const command = addPluginOption(
    program
      .command("grow")
      .summary("applies a growth operator to a checkpoint and writes a larger one")
      .description(
        "Grows a checkpoint, ours or Hugging Face's, and writes one in Hugging Face's layout; optimizer moments grow along where there are some. A definition can start from it (start: DIR). The plugins that the definition of a run names are there for its checkpoints, too.",
      )
      .argument("<checkpoint>", "run folder (its last step), step folder, or Hugging Face folder")
      .argument("[options...]", "options of the expander, as key=value")
      .requiredOption("--using <name>", "expander, or preset (of which only the expander counts)")
      .requiredOption("--to <shape>", "depth=12[,hiddenSize=768…]; what is missing stays as it is")
      .option("-o, --out <dir>", "where the grown checkpoint goes; only --describe does without")
      .option("--map <file.json>", "write the growth map, too: from which source each parameter is made")
      .option("--describe", "print the growth map in words; without --out nothing is grown")
      .option("--seed <number>", "for operators that draw", wholeNumberFromZero, 42),
  );
  addEngineOptions(command)
    .addHelpText(
      "after",
      `
Examples:
  $ espalier grow runs/small-s42 --using stacking --to depth=12 -o grown
  $ espalier grow bert-12x512 --using bert2bert-fpi --to hiddenSize=768,attentionHeads=12,intermediateSize=3072 -o bert-12x768
  $ espalier grow bert-6-layers --using interpolation mode=linear --to depth=12 -o bert-12-layers
  $ espalier grow runs/small-s42 --using interpolation width=fpi --to depth=12,intermediateSize=1024 --describe
  $ espalier grow bert-6-layers --plugin ./plugins/mine --using mine --to depth=12 -o bert-12-layers`,
    )
    .action(async (path: string, expanderOptions: readonly string[], options: GrowOptions) => {
      const terminal = openTerminal({});
      if (options.out === undefined && options.describe !== true)
        throw new UsageError("ESPALIER_OUT_MISSING", "required option '-o, --out <dir>' not specified", {
          hint: "--describe without it shows what would grow from what",
        });
      const { growCheckpoint } = await import("../grow-checkpoint.js");
      const grown = await growCheckpoint(path, { ...options, expanderOptions, note: terminal.note });
      if (options.describe) terminal.print(grown.description);
      if (options.out !== undefined) {
        terminal.print(
          `grown by ${grown.expander} from ${grown.from} to ${grown.to}${grown.moments ? ", moments along" : ""}: ${options.out}`,
        );
        // The description begins with it.
        if (grown.layerMap !== null && !options.describe)
          terminal.print(`layers: ${grown.layerMap.join(" ")}`);
      }
      terminal.print(`growth map: ${grown.mapHash}`);
    });
}
