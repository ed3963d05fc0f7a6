import type { Command } from "commander";
import { openTerminal } from "../terminal.js";

/** `espalier plugin list`: what is installed. */
export function addPlugin(program: Command): void {
  const plugin = program
    .command("plugin")
    .summary("plugins: what is installed")
    .description("Plugins bring strategies: depth samplers, growth schedules, expanders and more.")
    .addHelpText("after", "\nExample:\n  $ espalier plugin list");
  plugin
    .command("list")
    .summary("every plugin with its strategies and their options")
    .description("Lists the plugins found from this folder, with strategies, options and presets.")
    .option("--json", "print one JSON object")
    .addHelpText("after", "\nExample:\n  $ espalier plugin list --json")
    .action(async (options: { readonly json?: boolean }) => {
      const terminal = openTerminal(options);
      const { loadRegistry } = await import("../composition-root.js");
      const { describePlugins, pluginsJson } = await import("../describe-plugins.js");
      const registry = await loadRegistry();
      terminal.print(describePlugins(registry));
      terminal.json(pluginsJson(registry));
    });
}
