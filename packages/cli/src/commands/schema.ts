import type { Command } from "commander";
import { openTerminal } from "../terminal.js";

/** `espalier schema`: the JSON Schema of definitions, for editors. */
export function addSchema(program: Command): void {
  program
    .command("schema")
    .summary("the JSON Schema of definitions, for editors")
    .description("Prints the JSON Schema of definitions, or writes it to a file.")
    .option("-o, --out <file>", "write it there")
    .addHelpText("after", "\nExample:\n  $ espalier schema -o docs/definition.schema.json")
    .action(async (options: { readonly out?: string }) => {
      const { definitionJsonSchema } = await import("@espalier/experiments");
      const text = `${JSON.stringify(definitionJsonSchema(), null, 2)}\n`;
      if (options.out === undefined) {
        process.stdout.write(text);
        return;
      }
      const { writeTextDurably } = await import("@espalier/checkpoints");
      await writeTextDurably(options.out, text);
      openTerminal({}).print(`written to ${options.out}`);
    });
}
