import { existsSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { EspalierError } from "@espalier/core";
import type { Finding } from "./backend.js";
import { lastLines, runCommand } from "./command.js";
import { projectFolder } from "./folders.js";

type Usable = Extract<Finding, { usable: true }>;

/** From `src` and from `dist` alike: a child process runs what was compiled. */
const PROGRAM = fileURLToPath(new URL("../dist/verify-process.js", import.meta.url));

function record(name: string): string {
  return path.join(projectFolder(), ".espalier", `checked-${name}.json`);
}

function identity(finding: Usable): string {
  return JSON.stringify({ version: finding.version, place: finding.why, node: process.versions.node });
}

/** Whether exactly this library was checked with this version of Node. */
export async function isChecked(name: string, finding: Usable): Promise<boolean> {
  const written = await readFile(record(name), "utf8").catch(() => null);
  return written === identity(finding);
}

/**
 * Loads the backend in a process of its own and computes a product and a gradient with it, once per library and version
 * of Node: a library that crashes is found here and the next backend tried, instead of the user's run ending without a
 * word.
 *
 * @throws EspalierError where it does not load, computes wrong results or crashes
 */
export async function checkInChild(name: string, finding: Usable): Promise<void> {
  if (!existsSync(PROGRAM)) {
    throw new EspalierError("ESPALIER_BACKENDS_NOT_BUILT", `${PROGRAM} is missing`, { hint: "npx tsc -b" });
  }
  // The library is checked, on what it takes by itself; a device that is asked for is looked at when it is used.
  const env = { ...process.env, ESPALIER_DEVICE: "" };
  const answer = await runCommand(process.execPath, [PROGRAM, name], { env, timeout: 300_000 });
  if (answer.code !== 0) throw checkFailure(name, answer);
  await mkdir(path.dirname(record(name)), { recursive: true });
  const unfinished = `${record(name)}.${process.pid}.tmp`;
  await writeFile(unfinished, identity(finding));
  await rename(unfinished, record(name));
}

function checkFailure(name: string, answer: Awaited<ReturnType<typeof runCommand>>): EspalierError {
  const said = parseFailure(lastLines(answer.stdout, 1));
  if (said !== null) return new EspalierError("ESPALIER_BACKENDS_LOAD", said.message, { hint: said.hint });
  const end = answer.signal === null ? `ended with code ${answer.code}` : `crashed with ${answer.signal}`;
  const output = lastLines(answer.stderr, 3);
  return new EspalierError(
    "ESPALIER_BACKENDS_LOAD",
    `backend ${name} ${end} in its first check${output && `:\n${output}`}`,
    {
      hint: `remove .espalier/addon and run npx espalier setup ${name}, or choose another backend`,
    },
  );
}

function parseFailure(line: string): { message: string; hint: string | undefined } | null {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== "object" || value === null || !("message" in value)) return null;
    const hint = "hint" in value && typeof value.hint === "string" ? value.hint : undefined;
    return { message: String(value.message), hint };
  } catch {
    return null;
  }
}
