import type { Command } from "commander";
import { openTerminal } from "../terminal.js";

/** `espalier setup`: makes a backend usable. */
export function addSetup(program: Command): void {
  program
    .command("setup")
    .summary("makes a backend usable: finds or installs its library, compiles its addon")
    .description(
      "Finds or installs a backend's library, compiles its addon and tries it once. Without a name the best one that works; quick where all is there already.",
    )
    .argument("[backend]", "auto, libtorch, tensorflow, webgpu or wasm", "auto")
    .addHelpText("after", "\nExample:\n  $ espalier setup tensorflow")
    .action(async (name: string) => {
      const terminal = openTerminal({});
      const { setupBackend } = await import("@espalier/backends");
      const ready = await setupBackend(name, terminal.note);
      terminal.print(`${ready.name} is ready: ${ready.version}, ${ready.why}`);
    });
}
