// A child process that answers requests: a JSON object a line in, one out, in turn.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** A request failed, or the process ended before it answered. */
export class LineProcessError extends Error {
  code = "ESPALIER_BENCH_PROCESS";
}

/**
 * Starts a process that speaks JSON lines on standard input and output. What it says on standard error is kept, and the
 * last line of it told where the process dies.
 *
 * @param {string} command
 * @param {readonly string[]} given its arguments
 * @param {{ env?: NodeJS.ProcessEnv }} options
 */
export function startLineProcess(command, given, { env = process.env } = {}) {
  const child = spawn(command, given, { env, stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8");
  child.stderr.on("data", (text) => {
    said = (said + text).slice(-20_000);
  });
  // A process that is gone is told of by its end; writing to it must not bring ours down.
  child.stdin.on("error", () => undefined);
  let waiting = null;
  let ended = null;
  const finish = (why) => {
    ended ??= why;
    waiting?.reject(new LineProcessError(ended));
    waiting = null;
  };
  child.on("error", (error) => finish(error.message));
  child.on("close", (code, signal) => {
    const last = said.trim().split("\n").at(-1);
    finish(`the process ended (${signal ?? `exit code ${code}`})${last ? `: ${last}` : ""}`);
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    const { resolve, reject } = waiting ?? {};
    waiting = null;
    try {
      const reply = JSON.parse(line);
      if (reply.error === undefined) resolve?.(reply);
      else reject?.(new LineProcessError(reply.error));
    } catch {
      reject?.(new LineProcessError(`answered with what is not JSON: ${line.slice(0, 100)}`));
    }
  });
  return {
    pid: child.pid,
    /** The answer to a request; one at a time. Throws LineProcessError. */
    ask(request) {
      if (ended !== null) return Promise.reject(new LineProcessError(ended));
      if (waiting !== null) return Promise.reject(new LineProcessError("a request is not answered yet"));
      return new Promise((resolve, reject) => {
        waiting = { resolve, reject };
        child.stdin.write(`${JSON.stringify(request)}\n`);
      });
    },
    /** Ends the process; one that does not end by itself is killed. */
    async close() {
      if (ended !== null) return;
      const end = new Promise((resolve) => child.once("close", resolve));
      child.stdin.end(`${JSON.stringify({ do: "close" })}\n`);
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await end;
      clearTimeout(timer);
    },
  };
}
