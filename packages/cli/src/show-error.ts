import { EspalierError } from "@espalier/core";
import pc from "picocolors";

/**
 * Says what went wrong on standard error: message, file, key and hint of a failure that a user can act on; of anything
 * else a short message and how to see the stack.
 *
 * @returns the exit code
 */
export function showError(error: unknown): 1 | 2 {
  const { red, dim, bold } = pc.createColors(process.stderr.isTTY === true && pc.isColorSupported);
  const lines: string[] = [];
  if (error instanceof EspalierError) {
    lines.push(`${red(bold("error:"))} ${error.message}`);
    if (error.file !== undefined) lines.push(`  ${dim("file:")} ${error.file}`);
    if (error.key !== undefined) lines.push(`  ${dim("key:")}  ${error.key}`);
    if (error.hint !== undefined)
      lines.push(`  ${dim("hint:")} ${error.hint.replaceAll("\n", "\n        ")}`);
  } else {
    const said = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    lines.push(`${red(bold("unexpected error:"))} ${said.split("\n")[0]}`);
    if (!isDebugging()) lines.push(`  ${dim("hint:")} set ESPALIER_DEBUG=1 to see where it comes from`);
  }
  if (isDebugging()) lines.push(stackOf(error));
  process.stderr.write(`${lines.join("\n")}\n`);
  return error instanceof EspalierError ? error.exitCode : 1;
}

function isDebugging(): boolean {
  const value = process.env.ESPALIER_DEBUG;
  return value !== undefined && value !== "" && value !== "0";
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const cause = error.cause === undefined ? "" : `\ncaused by: ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
