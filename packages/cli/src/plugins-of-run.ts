import type { NamedPlugins } from "@espalier/experiments";
import { definitionOfRun } from "./run/definition-of-run.js";

/**
 * The plugins that the definition of a checkpoint's run names; none where it is of no run. What is not there any more,
 * or brings what the command line's plugins bring, is told and left out: most of what a checkpoint is used for does without.
 */
export async function pluginsOfRun(
  checkpoint: string,
  note: (text: string) => void,
): Promise<readonly NamedPlugins[]> {
  const source = await definitionOfRun(checkpoint);
  const plugins = source?.value.plugins;
  if (!source || !Array.isArray(plugins)) return [];
  return [
    {
      sources: plugins.filter((name) => typeof name === "string"),
      origin: "definition",
      file: source.file,
      folder: source.baseDirectory,
      key: "plugins",
      leaveOut: ({ message }) => note(`left out, though the run's definition names it: ${message}`),
    },
  ];
}
