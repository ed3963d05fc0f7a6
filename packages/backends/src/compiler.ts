import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { findProgram, runCommand } from "./command.js";
import { diskFull } from "./disk-space.js";
import { MissingPiece, missingCompiler } from "./missing-piece.js";

/**
 * The C++ compiler: `CXX` where it is set, else the first of c++, g++, clang++ on `PATH`.
 *
 * @throws MissingPiece where there is none
 */
export function findCompiler(env: NodeJS.ProcessEnv = process.env): string {
  const chosen = env.CXX?.trim();
  if (chosen !== undefined && chosen !== "") {
    const program = path.isAbsolute(chosen) ? chosen : findProgram(chosen, env);
    if (program !== null) return program;
    throw new MissingPiece("ESPALIER_BACKENDS_NO_COMPILER", `CXX names "${chosen}", which is not on PATH`, {
      hint: "unset CXX, or set it to a C++17 compiler",
    });
  }
  for (const name of ["c++", "g++", "clang++"]) {
    const program = findProgram(name, env);
    if (program !== null) return program;
  }
  throw missingCompiler(env);
}

/**
 * Compiles a shared library; `output` appears only when it is complete, so that a second process never sees half of it.
 * What the compiler said is kept beside it (`<output>.log`).
 *
 * @throws MissingPiece with the compiler's first error
 */
export async function compileShared(given: readonly string[], output: string): Promise<void> {
  const compiler = findCompiler();
  await mkdir(path.dirname(output), { recursive: true });
  const unfinished = `${output}.${process.pid}.tmp`;
  const answer = await runCommand(compiler, [...given, "-o", unfinished]);
  if (answer.code === 0) {
    await rename(unfinished, output);
    return;
  }
  await rm(unfinished, { force: true });
  const said = answer.stdout + answer.stderr;
  if (/No space left on device/.test(said))
    throw diskFull(path.dirname(output), "the compiler could not write its output");
  const log = `${output}.log`;
  await writeFile(log, `${compiler} ${given.join(" ")}\n${said}\n`);
  throw new MissingPiece(
    "ESPALIER_BACKENDS_COMPILE",
    `${compiler} could not compile the addon: ${firstError(said) ?? `it ended with ${answer.signal ?? answer.code}`}`,
    {
      file: log,
      hint: "the log file has the whole output; a C++17 compiler is needed (g++ 9 or clang 10, or newer)",
    },
  );
}

/** The first line of a compiler's output that states an error. */
export function firstError(output: string): string | null {
  const lines = output.split(/\r?\n/);
  return (
    lines.find((line) => /\b(?:fatal error|error|undefined reference|cannot find)\b/.test(line))?.trim() ??
    null
  );
}
