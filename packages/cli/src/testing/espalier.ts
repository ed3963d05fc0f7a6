import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The command as users start it. */
export const command = fileURLToPath(new URL("../../bin/espalier.js", import.meta.url));

/** How a process ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where and as whom it runs. */
export interface StartOptions {
  readonly cwd: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Instead of `node espalier.js …`: a shell line in which "$@" is that. */
  readonly shell?: string;
  readonly uid?: number;
  /** Sees standard error as it comes. */
  readonly onStderr?: (text: string, child: ChildProcess) => void;
}

/** Runs the real command line in a process of its own. */
export function espalier(args: readonly string[], options: StartOptions): Promise<Ended> {
  const line = [process.execPath, command, ...args];
  const [program, ...rest] = options.shell ? ["bash", "-c", options.shell, "bash", ...line] : line;
  const env: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: "1", ...options.env };
  // Conditions of the test runner are not the command's.
  for (const name of ["NODE_OPTIONS", "MLFLOW_TRACKING_URI", "VITEST", "ESPALIER_DEBUG"])
    if (options.env?.[name] === undefined) delete env[name];
  return new Promise((resolve, reject) => {
    const child = spawn(program!, rest, {
      cwd: options.cwd,
      env,
      stdio: ["ignore", "pipe", "pipe"],
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      options.onStderr?.(text, child);
    });
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** A definition that trains in a second: four layers of width 16 on {@link corpus}. */
export const tiny = `name: tiny
model: { family: gpt2, depth: 4, hiddenSize: 16, attentionHeads: 2, dropout: 0.1 }
data:
  corpus: { use: text, files: corpus.txt, separator: blank-line }
  tokenizer: { kind: bpe, vocabSize: 300 }
  sequenceLength: 16
growth:
  preset: apollo
  schedule: { use: stages, depths: [1, 2, 4], at: [0, 0.25, 0.5] }
training: { steps: 12, batchSize: 2, gradientAccumulation: 2, optimizer: { learningRate: 3e-3 } }
evaluation: { every: 4, batches: 2 }
checkpoints: { every: 4, keep: 2 }
threads: 1
`;

/** Two hundred short documents, always the same. */
export function corpus(): string {
  const words =
    "the of and to in a people government that states union which by for be it our we will nation".split(" ");
  let state = 1;
  const next = (): string => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return words[(state >>> 8) % words.length]!;
  };
  return Array.from({ length: 200 }, () => `${Array.from({ length: 40 }, next).join(" ")}.`).join("\n\n");
}

/** A folder with `tiny.yaml` and `corpus.txt`. Remove it. */
export async function makeFolder(): Promise<{ readonly path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "espalier-cli-"));
  await writeFile(join(path, "tiny.yaml"), tiny);
  await writeFile(join(path, "corpus.txt"), corpus());
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** The lines of a JSON Lines file. */
export async function readLines<Line>(file: string): Promise<Line[]> {
  return (await readFile(file, "utf8"))
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line);
}
