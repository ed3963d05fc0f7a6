// Running programs from the scripts; nothing here needs an installed package.
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * Runs a program to its end and keeps what it says.
 *
 * @param {string} program
 * @param {readonly string[]} given its arguments
 * @param {{ shown?: boolean, env?: NodeJS.ProcessEnv }} options `shown`: the output goes to the terminal instead
 * @returns {Promise<{ code: number, output: string }>} a program that could not be started has code 127
 */
export function runProgram(program, given, { shown = false, env = process.env } = {}) {
  return new Promise((resolve) => {
    const child = spawn(program, given, {
      cwd: root,
      env,
      stdio: shown ? ["ignore", "inherit", "inherit"] : ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8");
      stream?.on("data", (text) => {
        output += text;
      });
    }
    child.on("error", (error) => resolve({ code: 127, output: error.message }));
    child.on("close", (code) => resolve({ code: code ?? 1, output }));
  });
}

/** Runs a JavaScript program of an installed package with this Node: `runScript("typescript/bin/tsc", ["-b"])`. */
export function runScript(file, given, options) {
  return runProgram(process.execPath, [join(root, "node_modules", file), ...given], options);
}

/** Runs npm, the one that started this script where one did. */
export function runNpm(given, options) {
  const npm = process.env.npm_execpath;
  if (npm?.endsWith(".js")) return runProgram(process.execPath, [npm, ...given], options);
  return runProgram(process.platform === "win32" ? "npm.cmd" : "npm", given, options);
}

/** Seconds since `start` (a `performance.now()`), as text: `1.2 s`. */
export function secondsSince(start) {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}
