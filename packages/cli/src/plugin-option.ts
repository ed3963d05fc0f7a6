import type { NamedPlugins } from "@espalier/experiments";
import type { Command } from "commander";

/** `--plugin`, which can be given more than once. */
export interface PluginOption {
  readonly plugin: readonly string[];
}

/** Adds `--plugin`. */
export function addPluginOption(command: Command): Command {
  return command.option(
    "--plugin <package or path>",
    "a plugin beside those that are found; again for another",
    (source: string, before: readonly string[]) => [...before, source],
    [],
  );
}

/** The plugins of `--plugin`: paths start from the current folder. */
export function pluginsOfCommandLine(sources: readonly string[]): NamedPlugins {
  return {
    sources,
    origin: "command line",
    file: "command line",
    folder: process.cwd(),
    key: "--plugin",
  };
}
