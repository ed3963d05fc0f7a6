import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/**
 * The project's folder, in which set-up keeps what it makes: `.venv` (Python packages) and `.espalier` (compiled
 * addons). It is the folder whose `node_modules` this package was installed in, or the root of the workspace that
 * this package is part of; `ESPALIER_HOME` names another one.
 */
export function projectFolder(): string {
  const chosen = process.env.ESPALIER_HOME;
  if (chosen !== undefined && chosen !== "") return path.resolve(chosen);
  return projectOf(path.dirname(fileURLToPath(import.meta.url)));
}

/** {@link projectFolder} of a module in `folder`, without regard to the environment. */
export function projectOf(folder: string): string {
  const segments = folder.split(path.sep);
  const installed = segments.indexOf("node_modules");
  if (installed > 0) return segments.slice(0, installed).join(path.sep) || path.sep;
  for (let above = folder; ; above = path.dirname(above)) {
    if (isWorkspaceRoot(above)) return above;
    if (path.dirname(above) === above) return process.cwd();
  }
}

function isWorkspaceRoot(folder: string): boolean {
  const manifest = path.join(folder, "package.json");
  if (!existsSync(manifest)) return false;
  const content: unknown = JSON.parse(readFileSync(manifest, "utf8"));
  return typeof content === "object" && content !== null && "workspaces" in content;
}

/** The folder for compiled addons, made on demand by whoever writes there. */
export function addonFolder(): string {
  return path.join(projectFolder(), ".espalier", "addon");
}
