import { spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import path from "node:path";

/** How a program ended and what it said. */
export interface CommandResult {
  /** Exit code; `null` where it was not started or was ended by a signal. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Called with each line of either stream as it comes. */
  readonly onLine?: (line: string) => void;
  /** The program is ended after so many milliseconds. */
  readonly timeout?: number;
}

/**
 * Runs a program to its end, without a shell. A program that cannot be started answers with code `null` and the reason
 * in `stderr`; nothing is thrown.
 */
export function runCommand(
  program: string,
  given: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = spawn(program, given, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: options.timeout,
      windowsHide: true,
    });
    const stdout = collect(child.stdout, options.onLine);
    const stderr = collect(child.stderr, options.onLine);
    child.on("error", (error) => resolve({ code: null, signal: null, stdout: "", stderr: error.message }));
    child.on("close", (code, signal) => resolve({ code, signal, stdout: stdout(), stderr: stderr() }));
  });
}

function collect(stream: NodeJS.ReadableStream, onLine: ((line: string) => void) | undefined): () => string {
  let all = "";
  let pending = "";
  stream.setEncoding("utf8");
  stream.on("data", (chunk: string) => {
    all += chunk;
    if (onLine === undefined) return;
    const lines = (pending + chunk).split(/\r?\n/);
    pending = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  });
  stream.on("end", () => {
    if (pending !== "" && onLine !== undefined) onLine(pending);
  });
  return () => all;
}

/** The first program of that name on `PATH`, or null. */
export function findProgram(name: string, env: NodeJS.ProcessEnv = process.env): string | null {
  const endings = process.platform === "win32" ? (env.PATHEXT ?? ".EXE;.CMD;.BAT").split(";") : [""];
  for (const folder of (env.PATH ?? "").split(path.delimiter)) {
    if (folder === "") continue;
    for (const ending of endings) {
      const candidate = path.join(folder, name + ending);
      if (isExecutable(candidate)) return candidate;
    }
  }
  return null;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

/** The last lines of a program's output that say something. */
export function lastLines(output: string, count: number): string {
  return output
    .split(/\r?\n/)
    .map((line) => line.trimEnd())
    .filter((line) => line !== "")
    .slice(-count)
    .join("\n");
}
