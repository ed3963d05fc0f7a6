import { mkdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { findProgram, runCommand } from "../command.js";
import { projectFolder } from "../folders.js";

/**
 * Asks a Python for the folder of its torch without importing it (that takes seconds), and for the folders that it
 * imports from: while none of those changes, the answer stays.
 */
const QUESTION = `
import importlib.util, json, os, sys
spec = importlib.util.find_spec("torch")
places = spec.submodule_search_locations if spec else None
folders = [folder for folder in sys.path if folder and os.path.isdir(folder)]
print(json.dumps({"torch": list(places)[0] if places else None, "folders": folders}))
`;

/** A Python's answer. */
interface Answer {
  /** The folder of its package torch, or null where it has none. */
  readonly torch: string | null;
  /** Where it imports from. */
  readonly folders: readonly string[];
}

/** An answer with the times of everything that it depends on. */
interface Remembered {
  readonly torch: string | null;
  readonly environment: string;
  readonly times: Readonly<Record<string, number>>;
}

/**
 * The folder of the torch that a Python has, or null. A second question costs a few `stat` calls, not a start of
 * Python: the answer is kept in `.espalier/` with the modification times of the folders that Python imports from.
 *
 * @param program an executable on disk
 */
export async function torchOfPython(program: string): Promise<string | null> {
  const memory = path.join(projectFolder(), ".espalier", "python-torch.json");
  const remembered = await readMemory(memory);
  const known = remembered[program];
  if (known !== undefined && (await stillHolds(known, program))) return known.torch;
  const answer = await ask(program);
  const times = await timesOf([program, ...selectors(program), ...(answer?.folders ?? [])]);
  const torch = answer?.torch ?? null;
  await writeMemory(memory, { ...remembered, [program]: { torch, environment: environment(), times } });
  return torch;
}

/** The user's own Python: what `python3` is in this shell. */
export function userPython(): string | null {
  return findProgram("python3") ?? findProgram("python");
}

async function ask(program: string): Promise<Answer | null> {
  const result = await runCommand(program, ["-c", QUESTION], { timeout: 30_000 });
  if (result.code !== 0) return null;
  return JSON.parse(result.stdout) as Answer;
}

/** What else decides which Python a name starts and where it imports from. */
function environment(): string {
  const { VIRTUAL_ENV, CONDA_PREFIX, PYENV_VERSION, PYTHONPATH, PYTHONHOME } = process.env;
  return JSON.stringify([VIRTUAL_ENV, CONDA_PREFIX, PYENV_VERSION, PYTHONPATH, PYTHONHOME]);
}

/** Files by which pyenv's and asdf's stand-ins choose the Python to start. */
function selectors(program: string): string[] {
  if (!program.includes(`${path.sep}shims${path.sep}`)) return [];
  const root = process.env.PYENV_ROOT ?? path.join(os.homedir(), ".pyenv");
  return [
    path.join(root, "version"),
    path.join(process.cwd(), ".python-version"),
    path.join(process.cwd(), ".tool-versions"),
  ];
}

async function timesOf(files: readonly string[]): Promise<Record<string, number>> {
  return Object.fromEntries(
    await Promise.all(files.map(async (file) => [file, await modified(file)] as const)),
  );
}

/** Modification time in ms; 0 where there is no such file. */
async function modified(file: string): Promise<number> {
  return stat(file).then(
    (found) => found.mtimeMs,
    () => 0,
  );
}

async function stillHolds(known: Remembered, program: string): Promise<boolean> {
  if (known.environment !== environment()) return false;
  if (selectors(program).some((file) => !(file in known.times))) return false;
  const now = await timesOf(Object.keys(known.times));
  return Object.entries(known.times).every(([file, time]) => now[file] === time);
}

async function readMemory(file: string): Promise<Record<string, Remembered>> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as Record<string, Remembered>;
  } catch {
    return {}; // none yet, or unreadable: Python is asked again
  }
}

/** Only a shortcut: where it cannot be written, the next start asks Python again. */
async function writeMemory(file: string, memory: Record<string, Remembered>): Promise<void> {
  const unfinished = `${file}.${process.pid}.tmp`;
  try {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(unfinished, JSON.stringify(memory));
    await rename(unfinished, file);
  } catch {
    // a folder that cannot be written is reported where it matters: by set-up
  }
}
