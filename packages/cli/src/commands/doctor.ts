import type { Command } from "commander";
import { addEngineOptions, type EngineOptions } from "../engine-options.js";
import { openTerminal } from "../terminal.js";

/** `espalier doctor`: what works here, and how to get what does not. */
export function addDoctor(program: Command): void {
  addEngineOptions(
    program
      .command("doctor")
      .summary("backends, device, threads, versions; what is missing and how to get it")
      .description(
        "Shows every backend, which one is chosen and why, device, threads, versions and the tracking server; says how to get what is missing.",
      )
      .option("--json", "print one JSON object"),
  )
    .addHelpText("after", "\nExample:\n  $ espalier doctor --backend libtorch --threads 2")
    .action(async (options: EngineOptions & { readonly json?: boolean }) => {
      const terminal = openTerminal(options);
      const { examine } = await import("../examine.js");
      const { describeExamination } = await import("../describe-examination.js");
      const examination = await examine(options);
      terminal.print(describeExamination(examination));
      terminal.json(examination);
      if (examination.backend === null) process.exitCode = 1;
    });
}
