import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import type { Log } from "./backend.js";
import { type CommandResult, findProgram, lastLines, runCommand } from "./command.js";
import { diskFull, requireSpace } from "./disk-space.js";
import { MissingPiece, missingPython, missingVenv } from "./missing-piece.js";

/** A Python interpreter. */
export interface Python {
  readonly program: string;
  readonly major: number;
  readonly minor: number;
}

/** Inclusive range of minor versions of Python 3 that a package has builds for. */
export interface PythonRange {
  readonly from: number;
  readonly to?: number;
}

/** The version that a Python program says it has; null where it does not run. */
export async function pythonVersion(program: string): Promise<Python | null> {
  const answer = await runCommand(
    program,
    ["-c", "import sys; print(sys.version_info[0], sys.version_info[1])"],
    {
      timeout: 30_000,
    },
  );
  const [major, minor] = answer.stdout.trim().split(" ").map(Number);
  if (answer.code !== 0 || major === undefined || minor === undefined) return null;
  return { program, major, minor };
}

/**
 * A Python in the range: the user's `python3` where it fits, else a versioned one (`python3.12`) on `PATH`, newest first.
 *
 * @throws MissingPiece where there is none
 */
export async function findPython(range: PythonRange): Promise<Python> {
  const newest = range.to ?? 14;
  const versioned = Array.from(
    { length: newest - range.from + 1 },
    (_, index) => `python3.${newest - index}`,
  );
  const seen: string[] = [];
  let isNewer = false;
  for (const name of ["python3", "python", ...versioned]) {
    const program = findProgram(name);
    const python = program === null ? null : await pythonVersion(program);
    if (python === null) continue;
    if (fits(python, range)) return python;
    seen.push(`${name} ${python.major}.${python.minor}`);
    isNewer ||= python.minor > newest;
  }
  throw missingPython(seen, rangeText(range), isNewer ? range.to : undefined);
}

export function fits(python: Python, range: PythonRange): boolean {
  return (
    python.major === 3 && python.minor >= range.from && python.minor <= (range.to ?? Number.POSITIVE_INFINITY)
  );
}

function rangeText({ from, to }: PythonRange): string {
  return to === undefined ? `3.${from} or newer` : `3.${from} to 3.${to}`;
}

/** The interpreter of a virtual environment. */
export function venvPython(venv: string): string {
  return process.platform === "win32"
    ? path.join(venv, "Scripts", "python.exe")
    : path.join(venv, "bin", "python");
}

/** The folder that a virtual environment keeps its packages in; null where there is none. */
export async function sitePackages(venv: string): Promise<string | null> {
  if (process.platform === "win32") {
    const folder = path.join(venv, "Lib", "site-packages");
    return existsSync(folder) ? folder : null;
  }
  const library = path.join(venv, "lib");
  if (!existsSync(library)) return null;
  const python = (await readdir(library)).find((name) => /^python3\.\d+$/.test(name));
  return python === undefined ? null : path.join(library, python, "site-packages");
}

/**
 * A virtual environment with a Python in the range, made where there is none.
 *
 * @throws MissingPiece where no Python fits, the `venv` module is missing, or the disk is full
 */
export async function ensureVenv(venv: string, range: PythonRange, log: Log): Promise<Python> {
  const existing = existsSync(venvPython(venv)) ? await pythonVersion(venvPython(venv)) : null;
  if (existing !== null) {
    if (fits(existing, range)) return existing;
    throw missingPython([`${venv} with ${existing.major}.${existing.minor}`], rangeText(range));
  }
  const python = await findPython(range);
  const isOurs = !existsSync(venv);
  log(`making ${path.basename(venv)} with Python ${python.major}.${python.minor}`);
  const made = await runCommand(python.program, ["-m", "venv", venv]);
  const inside = made.code === 0 ? await pythonVersion(venvPython(venv)) : null;
  if (inside !== null) return inside;
  if (isOurs) await rm(venv, { recursive: true, force: true });
  const output = lastLines(made.stdout + made.stderr, 3);
  if (isDiskFull(made)) throw diskFull(path.dirname(venv), output);
  throw missingVenv(python.program, output);
}

/** What to install into a virtual environment. */
export interface PipRequest {
  readonly venv: string;
  /** Requirements as pip takes them, versions pinned. */
  readonly requirements: readonly string[];
  readonly withDependencies: boolean;
  /** Room that the unpacked packages take, in bytes. */
  readonly space: number;
  readonly log: Log;
}

/**
 * Installs packages with pip.
 *
 * @throws MissingPiece where there is no room, no network, or no such build; pip's last lines are in the message
 */
export async function pipInstall({
  venv,
  requirements,
  withDependencies,
  space,
  log,
}: PipRequest): Promise<void> {
  await requireSpace(venv, space, `installing ${requirements.join(", ")}`);
  const dependencies = withDependencies ? [] : ["--no-deps"];
  const answer = await runCommand(
    venvPython(venv),
    [
      "-m",
      "pip",
      "install",
      "--no-input",
      "--disable-pip-version-check",
      "--progress-bar",
      "off",
      ...dependencies,
      ...requirements,
    ],
    {
      onLine: (line) => {
        const said = /^\s*(Downloading \S+(?: \([^)]*\))?|Installing collected packages.*)/.exec(line)?.[1];
        if (said !== undefined) log(`  ${shorten(said)}`);
      },
    },
  );
  if (answer.code === 0) return;
  throw pipFailure(venv, requirements, answer);
}

/** Names the cause of a failed `pip install`. */
export function pipFailure(
  venv: string,
  requirements: readonly string[],
  answer: CommandResult,
): MissingPiece {
  const output = answer.stdout + answer.stderr;
  const tail = lastLines(output, 3);
  const what = requirements.join(" ");
  if (isDiskFull(answer)) return diskFull(venv, tail);
  if (/No module named pip\b/.test(output)) return missingVenv(venvPython(venv), tail);
  if (
    /NewConnectionError|ConnectionError|Connection (?:refused|reset|broken)|Max retries exceeded|ReadTimeout|ConnectTimeout|name resolution|ProxyError|SSLError|Network is unreachable/.test(
      output,
    )
  ) {
    return new MissingPiece(
      "ESPALIER_BACKENDS_NO_NETWORK",
      `pip could not reach the package index for ${what}:\n${tail}`,
      {
        hint: "check the network (and pip's index settings: pip config list), then run the same command again",
      },
    );
  }
  // pip says this of an index that it cannot reach, too, where it was told not to try again
  const isUnknown = output.includes("(from versions: none)");
  return new MissingPiece("ESPALIER_BACKENDS_PIP", `pip could not install ${what}:\n${tail}`, {
    hint: isUnknown
      ? `check the network and pip's index settings; there may also be no build for this Python on ${process.platform}-${process.arch}`
      : `${venvPython(venv)} -m pip install ${what} shows the whole output`,
  });
}

function isDiskFull(answer: CommandResult): boolean {
  return /No space left on device|ENOSPC|Errno 28|Disk quota exceeded/.test(answer.stdout + answer.stderr);
}

function shorten(line: string): string {
  return line.length <= 100 ? line : `${line.slice(0, 97)}...`;
}
