import type { Command } from "commander";
import { addPluginOption, type PluginOption, pluginsOfCommandLine } from "../plugin-option.js";
import { openTerminal } from "../terminal.js";

/** `espalier plugin list`: what is installed. */
export function addPlugin(program: Command): void {
  const plugin = program
    .command("plugin")
    .summary("plugins: what is installed")
    .description("Plugins bring strategies: depth samplers, growth schedules, expanders and more.")
    .addHelpText("after", "\nExample:\n  $ espalier plugin list");
  addPluginOption(
    plugin
      .command("list")
      .summary("every plugin with its strategies and their options")
      .description("Lists the plugins found from this folder, with strategies, options and presets.")
      .option("--json", "print one JSON object"),
  )
    .addHelpText(
      "after",
      `
Examples:
  $ espalier plugin list --json
  $ espalier plugin list --plugin ./plugins/mine`,
    )
    .action(async (options: PluginOption & { readonly json?: boolean }) => {
      const terminal = openTerminal(options);
      const { loadRegistry } = await import("../composition-root.js");
      const { describePlugins, pluginsJson } = await import("../describe-plugins.js");
      const registry = await loadRegistry(undefined, [pluginsOfCommandLine(options.plugin)]);
      terminal.print(describePlugins(registry));
      terminal.json(pluginsJson(registry));
    });
}
