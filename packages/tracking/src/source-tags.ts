import { execFile } from "node:child_process";
import { userInfo } from "node:os";
import { promisify } from "node:util";

const run = promisify(execFile);

/**
 * MLflow's standard tags about who ran what: `mlflow.user`, `mlflow.source.type`, `mlflow.source.name`, and, in a git
 * repository, `mlflow.source.git.commit` and `.branch`.
 *
 * @param folder where the definition is
 * @param name what was run, e.g. the definition's path
 */
export async function sourceTags(folder: string, name: string): Promise<Record<string, string>> {
  const git = (...args: string[]) =>
    run("git", ["-C", folder, ...args], { timeout: 5000 }).then(
      ({ stdout }) => stdout.trim(),
      () => "",
    );
  const [commit, branch] = await Promise.all([
    git("rev-parse", "HEAD"),
    git("rev-parse", "--abbrev-ref", "HEAD"),
  ]);
  return {
    "mlflow.user": userName(),
    "mlflow.source.type": "LOCAL",
    "mlflow.source.name": name,
    ...(commit !== "" && { "mlflow.source.git.commit": commit }),
    ...(branch !== "" && branch !== "HEAD" && { "mlflow.source.git.branch": branch }),
  };
}

/** Who runs this process, as `mlflow.user`. */
export function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // The user id has no entry in the system's user list, as in many containers.
    return process.env.USER ?? "unknown";
  }
}
