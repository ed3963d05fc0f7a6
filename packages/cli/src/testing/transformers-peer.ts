import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../../..", import.meta.url));
const script = fileURLToPath(new URL("transformers_peer.py", import.meta.url));
const python = join(
  root,
  ".venv-reference",
  process.platform === "win32" ? "Scripts/python.exe" : "bin/python",
);

/** Why Hugging Face's library is not there, or null. */
export const withoutTransformers = existsSync(python)
  ? null
  : "there is no .venv-reference with torch and transformers; npm run bench:setup makes it, where pip can install";

/** A folder that Hugging Face's library is to load. */
export interface LoadRequest {
  readonly folder: string;
  readonly ids: readonly number[];
  readonly texts: readonly string[];
  /** Continued greedily. */
  readonly prompt?: string;
  readonly newTokens?: number;
}

/** What it found there. */
export interface Loaded {
  /** As `output_loading_info=True` tells it. */
  readonly loading: {
    readonly missing_keys: readonly string[];
    readonly unexpected_keys: readonly string[];
    readonly mismatched_keys: readonly string[];
    readonly error_msgs: readonly string[];
  };
  /** `[seq][vocab]` */
  readonly logits: readonly (readonly number[])[];
  readonly ids: readonly (readonly number[])[];
  readonly decoded: readonly string[];
  readonly idsWithSpecialTokens: readonly (readonly number[])[];
  /** Names of what the tokenizer gives the model. */
  readonly inputs: readonly string[];
  readonly maxLength: number;
  readonly special: { readonly [role: string]: number | null };
  readonly length: number;
  readonly generated: string | null;
}

/** Hugging Face's answer. */
export interface PeerAnswer {
  /** Logits of the models that it made, by their folder's name. */
  readonly made: { readonly [name: string]: readonly (readonly number[])[] };
  readonly loaded: readonly Loaded[];
}

/** Asks real `transformers`, in a Python of its own. */
export function askTransformers(request: {
  readonly make: string;
  readonly ids: readonly number[];
  readonly load: readonly LoadRequest[];
}): Promise<PeerAnswer> {
  return new Promise((resolve, reject) => {
    const child = spawn(python, [script], { stdio: ["pipe", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (code) =>
      code === 0
        ? resolve(JSON.parse(stdout) as PeerAnswer)
        : reject(new Error(`transformers failed:\n${stderr.slice(-4000)}`)),
    );
    child.stdin.end(JSON.stringify(request));
  });
}

/** Runs a program of the repository with that Python. */
export function runPython(file: string, ...args: string[]): { code: number | null; output: string } {
  const done = spawnSync(python, [join(root, file), ...args], { encoding: "utf8" });
  return { code: done.status, output: done.stdout + done.stderr };
}
