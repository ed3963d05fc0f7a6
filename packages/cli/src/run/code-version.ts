import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Lock } from "@espalier/experiments";
import { espalierVersion } from "../version.js";

const execute = promisify(execFile);

/** Version and, where this is a working copy, commit of the code that runs. */
export async function codeVersion(): Promise<Lock["code"]> {
  const git = (...args: string[]) =>
    execute("git", ["-C", import.meta.dirname, ...args], { timeout: 5000 }).then(({ stdout }) =>
      stdout.trim(),
    );
  try {
    const commit = await git("rev-parse", "HEAD");
    return {
      version: espalierVersion(),
      commit,
      modified: (await git("status", "--porcelain", "--untracked-files=no")) !== "",
    };
  } catch {
    return { version: espalierVersion(), commit: null, modified: null };
  }
}
